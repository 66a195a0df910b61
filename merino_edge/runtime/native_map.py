"""The tensors of ``model.merino`` as numpy arrays: what its whole numbers stand for, in float32.

The one idea: the numpy reference that reads this computes with the same rounded weights as the
native decoder, so what remains between the two is the rounding of activations alone. F32 tensors
are views into the mapped file; Q8 and Q4 are turned back into rows, which takes the memory of a
float32 model: right for verifying, not for running.
"""

from typing import Dict

import numpy as np

from merino_edge.formats.architecture import Architecture
from merino_edge.formats.native_file import (
    BLOCK_COLUMNS,
    F32,
    PANEL_ROWS,
    Q4,
    NativeTensor,
    read_tensors,
)
from merino_edge.formats.weights import weight_shapes


def native_tensors(
    path: str, architecture: Architecture, dtype: str = "float32"
) -> Dict[str, np.ndarray]:
    """Name -> array of every tensor, dequantised.

    Raises:
        FormatError: The file is damaged or of another architecture.
    """
    places = read_tensors(path, architecture)
    data = np.memmap(path, dtype=np.uint8, mode="r")
    return {
        name: np.asarray(matrix(data, places[name]).reshape(shape), dtype=dtype)
        for name, shape in weight_shapes(architecture).items()
    }


def matrix(data: np.ndarray, place: NativeTensor) -> np.ndarray:
    """One tensor of a mapped file as float32 [n_out, n_in]."""
    if place.kind == F32:
        raw = data[place.offset : place.offset + place.n_bytes]
        return raw.view("<f4").reshape(place.n_out, place.n_in)
    values = quants_of(data, place).astype(np.float32)
    values *= scales_of(data, place)[:, :, None].astype(np.float32)
    if place.kind == Q4:
        values += minimums_of(data, place)[:, :, None].astype(np.float32)
    rows = values.reshape(values.shape[0], -1)[: place.n_out, : place.n_in]
    return np.ascontiguousarray(rows)


def quants_of(data: np.ndarray, place: NativeTensor) -> np.ndarray:
    """Whole numbers int8 [padded rows, blocks, 32]."""
    raw = data[place.offset : place.scales_offset].reshape(place.n_panels, place.n_blocks, -1)
    if place.kind == Q4:
        groups = np.concatenate([raw & 15, raw >> 4], axis=2).view(np.int8)
    else:
        groups = raw.view(np.int8)
    groups = groups.reshape(place.n_panels, place.n_blocks, 8, PANEL_ROWS, 4)
    rows = groups.transpose(0, 3, 1, 2, 4)  # [panel, row, block, group, column]
    return rows.reshape(-1, place.n_blocks, BLOCK_COLUMNS)  # type: ignore[no-any-return]


def scales_of(data: np.ndarray, place: NativeTensor) -> np.ndarray:
    """float16 [padded rows, blocks]."""
    return _per_block(data, place, place.scales_offset)


def minimums_of(data: np.ndarray, place: NativeTensor) -> np.ndarray:
    """float16 [padded rows, blocks], of a Q4 tensor."""
    return _per_block(data, place, place.minimums_offset)


def _per_block(data: np.ndarray, place: NativeTensor, offset: int) -> np.ndarray:
    n_halfs = place.n_panels * place.n_blocks * PANEL_ROWS
    panels = data[offset : offset + 2 * n_halfs].view("<f2")
    panels = panels.reshape(place.n_panels, place.n_blocks, PANEL_ROWS)
    return panels.transpose(0, 2, 1).reshape(-1, place.n_blocks)  # type: ignore[no-any-return]
