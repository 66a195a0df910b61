"""A GGUF file as metadata and an index of tensors; nothing is read before it is known to be there.

Layout, all little-endian: ``GGUF``, version (u32), number of tensors and of metadata pairs (u64);
the pairs (key, type, value); the tensors (name, dimensions fastest first, type, offset); padding;
the data, each tensor on an ``alignment`` boundary right behind the one before.

The one idea: every length in the file is checked against the bytes that are left, so a damaged
file ends in one sentence, at once. (The ``GGUFReader`` of the gguf package trusts them: an array
of bytes with one wrong digit in its length keeps it busy for ever.) The package is asked for what
it is good at: the block formats of quantised types. Which model it is, this module does not know.
"""

import mmap
import struct
from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from merino_edge.errors import FormatError, MissingDependencyError, UnsupportedError
from merino_edge.model.importers.parts import refuse_not_finite

VERSIONS = (2, 3)
MAX_ITEMS = 1 << 24  # of one array, of metadata pairs, of tensors: far above any real model
_SCALARS = ("B", "b", "H", "h", "I", "i", "f", "?", "", "", "Q", "q", "d")  # by type number
_STRING, _ARRAY = 8, 9
_CUT_SHORT = "the file was cut short or damaged; download or copy it again."
REQUIRED: Any = object()


class GGUFTensor(NamedTuple):
    """Where a tensor lies. ``shape`` is in numpy's order (rows, columns)."""

    type_name: str
    shape: tuple[int, ...]
    offset: int
    n_bytes: int


@dataclass(frozen=True)
class GGUFFile:
    """An opened file.

    Attributes:
        path: Of the file.
        metadata: Key -> int, float, bool, str, list of str, or numpy array.
        tensors: Name -> where it lies, in the order of the file.
        data: The whole file, mapped.
    """

    path: str
    metadata: dict[str, Any]
    tensors: dict[str, GGUFTensor]
    data: mmap.mmap

    def get(self, key: str, kind: type, default: Any = REQUIRED) -> Any:
        """A metadata value of a certain kind.

        Raises:
            FormatError: It is missing and there is no default, or it is of another kind.
        """
        value = self.metadata.get(key, default)
        if value is REQUIRED:
            raise FormatError("the metadata lacks it.", self.path, key)
        if value is default or type(value) is kind:  # not isinstance: True is no number
            return value
        raise FormatError(f"expected {kind.__name__}, found {value!r:.60}.", self.path, key)

    def type_counts(self) -> dict[str, int]:
        """How many tensors are stored in each type, most frequent first."""
        return dict(Counter(tensor.type_name for tensor in self.tensors.values()).most_common())

    def dequantized(self, name: str) -> np.ndarray:
        """One tensor as a new float32 array.

        Raises:
            UnsupportedError: Its type cannot be turned into float32.
            FormatError: It holds a NaN or an infinity.
        """
        gguf = import_gguf_package()
        tensor = self.tensors[name]
        row_bytes = tensor.n_bytes // max(1, prod(tensor.shape[:-1]))
        stored = np.frombuffer(self.data, np.uint8, tensor.n_bytes, tensor.offset)
        stored = stored.reshape((*tensor.shape[:-1], row_bytes))
        try:
            values = gguf.dequantize(stored, gguf.GGMLQuantizationType[tensor.type_name])
        except NotImplementedError as error:
            raise UnsupportedError(
                f"{self.path}: '{name}' is stored as {tensor.type_name}, "
                "which the gguf package cannot dequantise."
            ) from error
        return refuse_not_finite(values, self.path, name)


def import_gguf_package() -> Any:
    """The one door to the gguf package.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingDependencyError(
            "gguf", "reading a GGUF file", "pip install 'merino-edge[host]'"
        ) from error
    return gguf


def open_gguf(path: str) -> GGUFFile:
    """Read metadata and index; the weights stay on disk.

    Raises:
        FormatError: Missing, empty, not GGUF, cut short or damaged.
        UnsupportedError: A version, byte order or tensor type that this version cannot take.
    """
    try:
        with open(path, "rb") as stream:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise FormatError("the file does not exist.", path) from error
    except ValueError as error:
        raise FormatError("the file is empty.", path) from error
    cursor = _Cursor(data, path)
    n_tensors, n_pairs = _preamble(cursor)
    metadata: dict[str, Any] = {}
    for _ in range(n_pairs):
        key = cursor.string("a metadata key")
        if key in metadata:
            raise FormatError("the key appears twice.", path, key)
        metadata[key] = cursor.value(cursor.number("I", key), key)
    infos = [_tensor_info(cursor) for _ in range(n_tensors)]
    tensors = _locate(infos, cursor, metadata.get("general.alignment", 32))
    return GGUFFile(path, metadata, tensors, data)


class _Cursor:
    """A position in the file that never passes its end."""

    def __init__(self, data: mmap.mmap, path: str):
        self.data, self.path, self.position = data, path, 0

    def take(self, n_bytes: int, what: str) -> int:
        """Step over bytes that must be there; returns where they start."""
        start, end = self.position, self.position + n_bytes
        if end > len(self.data):
            raise FormatError(
                f"the file ends at byte {len(self.data)}, inside {what} (bytes {start} to {end}).",
                self.path,
                hint=_CUT_SHORT,
            )
        self.position = end
        return start

    def number(self, code: str, what: str) -> Any:
        start = self.take(struct.calcsize("<" + code), what)
        value = struct.unpack_from("<" + code, self.data, start)[0]
        # The shortest decimal of a float32, so that 1e-05 does not become 9.999999747378752e-06.
        return float(str(np.float32(value))) if code == "f" else value

    def count(self, what: str) -> int:
        value = self.number("Q", what)
        if value > MAX_ITEMS:
            raise FormatError(f"{value} items in {what}?", self.path, hint=_CUT_SHORT)
        return value

    def string(self, what: str) -> str:
        n_bytes = self.number("Q", what)
        start = self.take(n_bytes, what)
        try:
            return self.data[start : start + n_bytes].decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(f"{what} at byte {start} is not UTF-8.", self.path) from error

    def value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self.string(key)
        if kind == _ARRAY:
            return self._array(key)
        return self.number(self._code(kind, key), key)

    def _array(self, key: str) -> Any:
        kind, n = self.number("I", key), self.count(key)
        if kind == _STRING:
            return [self.string(key) for _ in range(n)]
        dtype = np.dtype("<" + self._code(kind, key))
        return np.frombuffer(self.data, dtype, n, self.take(n * dtype.itemsize, key))

    def _code(self, kind: int, key: str) -> str:
        if kind >= len(_SCALARS) or not _SCALARS[kind]:
            raise FormatError(f"value of unknown type {kind}.", self.path, key, hint=_CUT_SHORT)
        return _SCALARS[kind]


def _preamble(cursor: _Cursor) -> tuple[int, int]:
    """Check magic and version; returns the numbers of tensors and of metadata pairs."""
    magic = bytes(cursor.data[:4])
    if magic != b"GGUF":
        raise FormatError(f"not a GGUF file: it starts with {magic!r}, not b'GGUF'.", cursor.path)
    cursor.take(4, "the magic")
    version = cursor.number("I", "the version")
    if version not in VERSIONS:
        swapped = version & 0xFFFF == 0
        what = "is big-endian" if swapped else f"has version {version}"
        raise UnsupportedError(
            f"{cursor.path}: this GGUF {what}; versions 2 and 3, little-endian, are supported."
        )
    return cursor.count("the list of tensors"), cursor.count("the metadata")


def _tensor_info(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """(name, shape in numpy's order, type number, offset in the data)."""
    name = cursor.string("a tensor's name")
    what = f"the description of '{name:.60}'"
    n_dims = cursor.number("I", what)
    if not 1 <= n_dims <= 4:
        raise FormatError(f"{n_dims} dimensions.", cursor.path, name, hint=_CUT_SHORT)
    dims = [cursor.number("Q", what) for _ in range(n_dims)]
    return name, tuple(reversed(dims)), cursor.number("I", what), cursor.number("Q", what)


def _locate(infos: list, cursor: _Cursor, alignment: Any) -> dict[str, GGUFTensor]:
    """Turn offsets into places in the file, each right behind the one before."""
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise FormatError(f"{alignment!r} is not a power of two.", cursor.path, "general.alignment")
    tensors: dict[str, GGUFTensor] = {}
    start = expected = -(-cursor.position // alignment) * alignment
    for name, shape, type_number, offset in infos:
        if name in tensors:
            raise FormatError("the tensor appears twice.", cursor.path, name)
        if start + offset != expected:
            raise FormatError(
                f"the data starts at byte {start + offset}, the tensor before ends at {expected}.",
                cursor.path,
                name,
                hint=_CUT_SHORT,
            )
        type_name, n_bytes = _storage(name, shape, type_number, cursor.path)
        cursor.position = expected
        cursor.take(n_bytes, f"the tensor '{name}'")
        tensors[name] = GGUFTensor(type_name, shape, expected, n_bytes)
        expected = -(-cursor.position // alignment) * alignment
    return tensors


def _storage(name: str, shape: tuple[int, ...], number: int, path: str) -> tuple[str, int]:
    """Name of a storage type, and how many bytes the tensor takes in it."""
    gguf = import_gguf_package()
    try:
        kind = gguf.GGMLQuantizationType(number)
    except ValueError as error:
        raise UnsupportedError(f"{path}: '{name}' has the unknown type number {number}.") from error
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    if shape[-1] % block:
        raise FormatError(
            f"rows of {shape[-1]} are no multiple of {kind.name}'s blocks of {block}.", path, name
        )
    return kind.name, prod(shape) // block * block_bytes
