"""The matrices of a weights file in whole numbers as numpy arrays: what they stand for, in float32.

The one idea: a native file and the weights file of a graph must stand for the same model. Each has
a reader of its own (this one, and ``native_map``), and one comparison asks both about every weight.
"""

from typing import NamedTuple

import numpy as np

from merino_edge.errors import ParityError
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.native_file import BLOCK_COLUMNS, read_tensors
from merino_edge.formats.weights import read_index
from merino_edge.formats.whole_weights import (
    MIDDLE_4,
    MIDDLE_8,
    OFFSETS,
    QUANTS,
    SCALES,
    ZEROS,
    WholeForm,
    whole_forms,
)
from merino_edge.runtime.native_map import matrix

# The native file keeps -zero * scale, at most 15 steps, in float16, whose rounding is 2**-11 of it
# at most (2**-25 where numbers are smallest); the graph multiplies the two itself.
STEPS_APART, SMALLEST_APART = 15 * 2.0**-11, 2.0**-25


class WholeMatrix(NamedTuple):
    """What is stored for a matrix: values and steps of the grid they lie on, [n_out, n_in]."""

    values: np.ndarray
    steps: np.ndarray


class WholeWeights:
    """An opened weights file in whole numbers.

    Args:
        path: The file.
        architecture: What it must hold.

    Attributes:
        forms: Name -> form of every matrix.

    Raises:
        FormatError: The file is not what it claims, or of another architecture.
    """

    def __init__(self, path: str, architecture: Architecture):
        self._index = read_index(path)
        self.forms = whole_forms(self._index, architecture, path)
        self._data = np.memmap(path, dtype=np.uint8, mode="r")

    def plain(self, name: str) -> np.ndarray:
        """A tensor that is no matrix, or one part of a matrix, as it lies in the file."""
        entry = self._index[name]
        raw = self._data[entry.offset : entry.offset + entry.n_bytes]
        return raw.view("<f4" if entry.dtype == "F32" else np.uint8).reshape(entry.shape)

    def matrix(self, name: str) -> WholeMatrix:
        """What the whole numbers of a matrix stand for."""
        form, scales = self.forms[name], self.plain(name + SCALES)
        values = self._steps_from_zero(name, form) * scales[:, :, None]
        if form.has_offsets:
            values += self.plain(name + OFFSETS).T[:, :, None]
        rows = values.reshape(len(values), -1)[:, : form.n_in]
        return WholeMatrix(rows, np.repeat(scales, BLOCK_COLUMNS, axis=1)[:, : form.n_in])

    def _steps_from_zero(self, name: str, form: WholeForm) -> np.ndarray:
        """Whole numbers less their zero points, float32 [n_out, n_blocks, 32]."""
        quants = self.plain(name + QUANTS)
        if form.bits == 8:
            return quants.astype(np.float32) - MIDDLE_8
        steps = _nibbles(quants).astype(np.float32)
        if form.has_offsets:
            return steps - MIDDLE_4
        zeros = _nibbles(self.plain(name + ZEROS))[:, : form.n_blocks]
        return steps - zeros[:, :, None]  # type: ignore[no-any-return]


def check_same_numbers(native_path: str, weights_path: str, architecture: Architecture) -> int:
    """Compare every weight of a native file with that of a weights file; returns how many.

    Raises:
        FormatError: A file is damaged, or of another architecture.
        ParityError: Names the first tensor that stands for something else.
    """
    places, n_weights = read_tensors(native_path, architecture), 0
    data = np.memmap(native_path, dtype=np.uint8, mode="r")
    whole = WholeWeights(weights_path, architecture)
    for name, place in places.items():
        native = matrix(data, place)
        if name in whole.forms:
            values, steps = whole.matrix(name)
            _require_same(name, np.abs(values - native), STEPS_APART * steps + SMALLEST_APART)
        else:
            values = whole.plain(name)
            _require_same(name, np.abs(values.reshape(native.shape) - native), np.zeros(1))
        n_weights += native.size
    return n_weights


def _require_same(name: str, difference: np.ndarray, allowed: np.ndarray) -> None:
    beyond = ~(difference <= allowed)  # NaN is beyond, too
    if beyond.any():
        raise ParityError(
            "{} of {} weights of '{}' differ between the native file and the graph, by up to "
            "{:.3g}.".format(int(beyond.sum()), difference.size, name, float(difference.max())),
            max_abs_diff=float(difference.max()),
            hint="build the bundle again.",
        )


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """uint8 [..., n] -> [..., 2 n]: the low four bits of a byte, then the high ones."""
    pairs = np.stack([packed & 15, packed >> 4], axis=-1)
    return pairs.reshape(packed.shape[:-1] + (-1,))
