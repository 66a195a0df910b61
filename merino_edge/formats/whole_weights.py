"""Matrices in whole numbers inside a weights file: which tensors stand for one, and what they mean.

The one idea: a matrix NAME [n_out, n_in] is a few tensors named after it, laid out as ONNX
Runtime's MatMulNBits reads them, so that a graph points at them where they lie. Columns go in
blocks of 32 that share a scale; the last block is padded with zeros::

    NAME.quants   U8   8 bits: [n_out, n_blocks, 32], a byte is q + 128
                       4 bits: [n_out, n_blocks, 16], a byte is two columns, the first low
    NAME.scales   F32  [n_out, n_blocks]
    NAME.zeros    U8   4 bits: [n_out, ceil(n_blocks / 2)], two blocks a byte, the first low
    NAME.offsets  F32  4 bits: [n_blocks, n_out]

With 8 bits the value is scale * q. With 4 bits a matrix has zeros, and the value is
scale * (q - zero), or it has offsets, and the value is scale * (q - 8) + offset. What is no matrix
(norms, biases, positions) is F32 under its own name.

The native file holds the same numbers in another order (``formats.native_file``).
"""

from typing import Dict, NamedTuple, Tuple

from merino_edge.errors import FormatError
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.native_file import BLOCK_COLUMNS
from merino_edge.formats.weights import Shape, TensorEntry, weight_shapes

WHOLE = ("int8", "int4", "int4-all")  # precisions; the last with the table of tokens in 4 bits
MIDDLE_8, MIDDLE_4 = 128, 8  # what MatMulNBits subtracts where it is given no zero points
QUANTS, SCALES, ZEROS, OFFSETS = ".quants", ".scales", ".zeros", ".offsets"

Index = Dict[str, TensorEntry]


class WholeForm(NamedTuple):
    """How one matrix is stored: its columns without padding, bits, and whether it has offsets."""

    n_in: int
    bits: int
    has_offsets: bool

    @property
    def n_blocks(self) -> int:
        """Blocks of 32 columns, the last one padded."""
        return -(-self.n_in // BLOCK_COLUMNS)


def whole_forms(index: Index, architecture: Architecture, path: str) -> Dict[str, WholeForm]:
    """Name -> form of every matrix that a weights file holds in whole numbers.

    Args:
        index: Of the file, from ``read_index``.
        architecture: What the file must hold.
        path: The file, for errors.

    Raises:
        FormatError: A tensor is missing, unknown, or has another type or shape.
    """
    forms, expected = {}, {}  # type: Dict[str, WholeForm], Dict[str, Tuple[str, Shape]]
    for name, shape in weight_shapes(architecture).items():
        quants = index.get(name + QUANTS)
        if quants is None:
            expected[name] = ("F32", shape)
            continue
        bits = 8 * quants.shape[-1] // BLOCK_COLUMNS if quants.shape else 0
        forms[name] = WholeForm(shape[-1], bits, name + OFFSETS in index)
        expected.update(_parts(name, shape, forms[name]))
    _check(index, expected, path)
    return forms


def _parts(name: str, shape: Shape, form: WholeForm) -> Dict[str, Tuple[str, Shape]]:
    n_out, n_blocks = shape[0], form.n_blocks
    blob = BLOCK_COLUMNS // (1 if form.bits == 8 else 2)
    parts = {
        name + QUANTS: ("U8", (n_out, n_blocks, blob)),
        name + SCALES: ("F32", (n_out, n_blocks)),
    }  # type: Dict[str, Tuple[str, Shape]]
    if form.has_offsets:
        parts[name + OFFSETS] = ("F32", (n_blocks, n_out))
    elif form.bits != 8:
        parts[name + ZEROS] = ("U8", (n_out, -(-n_blocks // 2)))
    return parts


def _check(index: Index, expected: Dict[str, Tuple[str, Shape]], path: str) -> None:
    for name in list(expected) + list(index):
        entry = index.get(name)
        found = (entry.dtype, tuple(entry.shape)) if entry else None
        if found != expected.get(name):
            raise FormatError(
                "the file has {}, the architecture says {}.".format(
                    found or "no such tensor", expected.get(name) or "there is none"
                ),
                path,
                name,
            )
