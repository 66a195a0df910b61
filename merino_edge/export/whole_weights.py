"""From a native file to its graph's weights file: the same whole numbers in MatMulNBits' order.

The one idea: nothing is rounded a second time. The native file is read back, and what it says is
laid out as ``formats.whole_weights`` describes; so both files hold equal numbers by construction.

Whole zero points are not stored in a native file, only the minimums that they make; a matrix has
them if a zero from 0 to 15 gives back every minimum, and otherwise it gets offsets, measured from
the middle of the sixteen steps: activations are rounded, and what they are multiplied with should
then be small.
"""

import numpy as np

from merino_edge.formats.architecture import Architecture
from merino_edge.formats.native_file import F32, Q8, NativeTensor, read_tensors
from merino_edge.formats.weights import weight_shapes, write_weights
from merino_edge.formats.whole_weights import (
    MIDDLE_4,
    MIDDLE_8,
    OFFSETS,
    QUANTS,
    SCALES,
    ZEROS,
)
from merino_edge.runtime.native_map import matrix, minimums_of, quants_of, scales_of

_DTYPES = {"float32": "F32", "uint8": "U8"}


def write_whole_weights(path: str, native_path: str, architecture: Architecture) -> None:
    """Write the weights file of a graph in whole numbers.

    Raises:
        FormatError: The native file is damaged or of another architecture.
        OSError: The disk is full.
    """
    places = read_tensors(native_path, architecture)
    data = np.memmap(native_path, dtype=np.uint8, mode="r")
    rows = []
    for name, shape in weight_shapes(architecture).items():
        place = places[name]
        if place.kind == F32:
            parts = {"": matrix(data, place).reshape(shape)}
        else:
            parts = _parts(data, place)
        for suffix, array in parts.items():
            packed = np.ascontiguousarray(array)
            rows.append((name + suffix, _DTYPES[packed.dtype.name], packed.shape, packed.data))
    write_weights(path, rows)


def _parts(data: np.ndarray, place: NativeTensor) -> dict[str, np.ndarray]:
    """Suffix -> array, for one matrix."""
    quants = quants_of(data, place)[: place.n_out]
    scales = scales_of(data, place)[: place.n_out].astype(np.float32)
    if place.kind == Q8:
        middle = (quants.astype(np.int16) + MIDDLE_8).astype(np.uint8)
        return {QUANTS: middle, SCALES: scales}
    minimums = minimums_of(data, place)[: place.n_out]
    parts = {QUANTS: _in_pairs(quants.view(np.uint8)), SCALES: scales}
    zeros = whole_zeros(scales, minimums)
    if zeros is None:
        return parts | {OFFSETS: (minimums.astype(np.float32) + MIDDLE_4 * scales).T}
    return parts | {ZEROS: _in_pairs(zeros)}


def whole_zeros(scales: np.ndarray, minimums: np.ndarray) -> np.ndarray | None:
    """Zero points uint8 [n_out, n_blocks] that give back every minimum, or None."""
    steps = np.divide(
        -minimums.astype(np.float32), scales, out=np.zeros_like(scales), where=scales != 0
    )
    zeros = np.clip(np.rint(steps), 0, 15)
    gives = (-zeros * scales).astype(np.float16)
    return zeros.astype(np.uint8) if np.array_equal(gives, minimums) else None


def _in_pairs(values: np.ndarray) -> np.ndarray:
    """uint8 [..., n] below 16 -> [..., ceil(n / 2)], the first of two in the low four bits."""
    if values.shape[-1] % 2:
        values = np.concatenate([values, np.zeros_like(values[..., :1])], axis=-1)
    return values[..., 0::2] | values[..., 1::2] << 4
