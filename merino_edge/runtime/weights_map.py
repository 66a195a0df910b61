"""The stored tensors of a bundle as numpy arrays, mapped from the file where they lie."""

from typing import Dict

import numpy as np

from merino_edge.errors import FormatError, UnsupportedError
from merino_edge.formats.weights import TensorEntry, read_index

Tensors = Dict[str, np.ndarray]
_NUMPY_DTYPES = {"F32": np.float32, "F16": np.float16}


def map_tensors(path: str, dtype: str = "float32") -> Tensors:
    """Every tensor of a weights file by name; those stored in ``dtype`` are views into the file.

    Raises:
        FormatError: The file is not what it claims.
        UnsupportedError: A precision that numpy does not read.
    """
    data = np.memmap(path, dtype=np.uint8, mode="r")
    return {
        name: np.asarray(_view(data, name, entry), dtype=dtype)
        for name, entry in read_index(path).items()
    }


def map_tensor(path: str, name: str) -> np.ndarray:
    """One tensor, as it is stored.

    Raises:
        FormatError: The file is not what it claims, or has no such tensor.
        UnsupportedError: A precision that numpy does not read.
    """
    index = read_index(path)
    if name not in index:
        raise FormatError("the file holds no such tensor.", path, name)
    return _view(np.memmap(path, dtype=np.uint8, mode="r"), name, index[name])


def _view(data: np.ndarray, name: str, entry: TensorEntry) -> np.ndarray:
    if entry.dtype not in _NUMPY_DTYPES:
        raise UnsupportedError(
            "numpy cannot read {} weights ({}).".format(entry.dtype, name),
            hint="use --backend ort.",
        )
    raw = data[entry.offset : entry.offset + entry.n_bytes].view(_NUMPY_DTYPES[entry.dtype])
    return raw.reshape(entry.shape)
