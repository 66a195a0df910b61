"""The weights of a Hugging Face folder: one safetensors file, or several with an index.

The one idea: a folder is a table ``name -> (file, entry)``, and only safetensors fill it. The
older ``pytorch_model.bin`` is a pickle, a program that runs when it is opened; it is refused with
the command that converts it. Whatever the files store becomes float32, one tensor at a time. What
the tensors mean, this module does not know.
"""

import os
from collections import Counter
from dataclasses import dataclass

import numpy as np

from merino_edge.errors import FormatError, UnsupportedError
from merino_edge.formats import jsonio
from merino_edge.formats.weights import Shape, TensorEntry, read_index
from merino_edge.model.importers.parts import refuse_not_finite

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth")
_CONVERT = (
    'python -c "import sys; from transformers import AutoModelForCausalLM as M; '
    'M.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])" {} CONVERTED/'
)


@dataclass(frozen=True)
class SafetensorsFolder:
    """An opened folder; the weights are mapped, not read.

    Attributes:
        path: The folder.
        files: Names of its safetensors files, in the order of their names.
        entries: Tensor -> (file, where it lies in it).
    """

    path: str
    files: tuple[str, ...]
    entries: dict[str, tuple[str, TensorEntry]]

    def shapes(self) -> dict[str, Shape]:
        """Tensor -> shape."""
        return {name: entry.shape for name, (_, entry) in self.entries.items()}

    def type_counts(self) -> dict[str, int]:
        """How many tensors are stored in each type, most frequent first."""
        return dict(Counter(entry.dtype for _, entry in self.entries.values()).most_common())

    def array(self, name: str) -> np.ndarray:
        """One tensor as float32, mapped from the file where that is what it stores.

        Raises:
            UnsupportedError: It holds whole numbers: quantised weights.
            FormatError: It holds a NaN or an infinity.
        """
        file, entry = self.entries[name]
        if entry.dtype not in _FLOATS:
            raise UnsupportedError(
                f"{self.path}: the tensor '{name}' is stored as {entry.dtype}: quantised weights "
                "are not supported.",
                note=f"supported: {', '.join(_FLOATS)}.",
            )
        stored = np.memmap(
            os.path.join(self.path, file),
            dtype=_FLOATS[entry.dtype],
            mode="r",
            offset=entry.offset,
            shape=entry.shape,
        )
        if entry.dtype == "BF16":  # the upper half of a float32
            values = (stored.astype(np.uint32) << 16).view(np.float32)
        else:
            with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
                values = stored.astype(np.float32, copy=False)
        return refuse_not_finite(values, os.path.join(self.path, file), name)


def open_safetensors_folder(path: str) -> SafetensorsFolder:
    """Read the index and the headers of all files.

    Raises:
        FormatError: A file is missing, cut short or damaged, or the index does not fit the files.
        UnsupportedError: The folder has its weights in pickles only.
    """
    if os.path.isfile(os.path.join(path, SINGLE)):
        entries = read_index(os.path.join(path, SINGLE))
        return SafetensorsFolder(
            path, (SINGLE,), {name: (SINGLE, entry) for name, entry in entries.items()}
        )
    if not os.path.isfile(os.path.join(path, INDEX)):
        _refuse_without_safetensors(path)
    return _open_shards(path)


def _open_shards(path: str) -> SafetensorsFolder:
    index_path = os.path.join(path, INDEX)
    places = _weight_map(index_path)
    files = tuple(sorted(set(places.values())))
    found = {file: read_index(os.path.join(path, file)) for file in files}
    for name, file in places.items():
        if name not in found[file]:
            raise FormatError(f"it lies in {file}, which has no such tensor.", index_path, name)
    for file, entries in found.items():
        for name in entries:
            if places.get(name) != file:
                raise FormatError(f"{file} has the tensor, the index has it not.", index_path, name)
    return SafetensorsFolder(path, files, {n: (f, found[f][n]) for n, f in places.items()})


def _weight_map(index_path: str) -> dict[str, str]:
    document = jsonio.read_json(index_path)
    places = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(places, dict) or not places:
        raise FormatError("there is no 'weight_map' of tensors to files in it.", index_path)
    for name, file in places.items():
        plain = isinstance(file, str) and file == os.path.basename(file) and file.strip(".")
        if not plain or not file.endswith(".safetensors"):
            raise FormatError(f"{file!r} is not a safetensors file beside it.", index_path, name)
    return places


def _refuse_without_safetensors(path: str) -> None:
    names = sorted(os.listdir(path))
    pickles = [n for n in names if n in _PICKLES or n.startswith("pytorch_model-")]
    if pickles:
        raise UnsupportedError(
            f"{path}: the weights are pickled ({pickles[0]}), there is no {SINGLE}.",
            note="opening a pickle runs whatever program is in it, so it is not opened here.",
            hint="where you trust it, convert it: " + _CONVERT.format(path),
        )
    there = ", ".join(names[:8]) or "nothing"
    raise FormatError(f"there is neither {SINGLE} nor {INDEX} in it.", path, note=f"it has {there}")
