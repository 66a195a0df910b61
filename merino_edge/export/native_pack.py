"""Writes ``model.merino``: arrays, quantised and interleaved, at the places that the format plans.

The one idea: one tensor at a time. Each is rounded, laid out in panels and written before the next
is touched, so packing needs a few times the memory of its largest matrix and no more. The way back
is ``runtime.native_map``, which the tests hold this module to.
"""

import os
from collections.abc import Callable, Mapping

import numpy as np

from merino_edge.export.quantise import Quantised, quantise
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.native_file import (
    EMBED,
    F32,
    PANEL_ROWS,
    Q4,
    Q8,
    NativeTensor,
    plan,
    tensor_kinds,
)
from merino_edge.formats.weights import check_names

BITS = {Q8: 8, Q4: 4}
Rounding = Callable[[np.ndarray, int, bool], Quantised]


def pack(
    path: str,
    architecture: Architecture,
    tensors: Mapping[str, np.ndarray],
    precision: str,
    on_progress: Callable[[str], None] = lambda text: None,
    rounding: Rounding = quantise,
) -> None:
    """Write a model file, atomically.

    Args:
        path: The file.
        architecture: The decoder.
        tensors: Name -> array, as ``formats.weights.weight_shapes`` lists them.
        precision: Of the matrices, one of ``native_file.KINDS``.
        on_progress: Told which tensor is being written.
        rounding: Makes whole numbers, as ``quantise`` does.

    Raises:
        FormatError: A tensor is missing or has another shape.
        SpecError: A weight is not finite, or too large for its precision.
        OSError: The disk is full; the old file is untouched.
    """
    check_names({name: np.shape(tensors[name]) for name in tensors}, architecture, path)
    layout = plan(architecture, tensor_kinds(architecture, precision))
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "wb") as stream:
            stream.write(layout.head)
            for i, (name, place) in enumerate(layout.tensors.items()):
                on_progress(f"packing tensor {i + 1} of {len(layout.tensors)}: {name}")
                stream.seek(place.offset)
                for array in _parts(place, tensors[name], name == EMBED, rounding):
                    stream.write(array.data)
            stream.truncate(layout.file_bytes)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(part, 0o666 & ~jsonio.umask())
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.remove(part)


def panels(quantised: Quantised) -> list[np.ndarray]:
    """Quants, scales and, for 4 bits, minimums in the order of the file.

    Returns:
        uint8 [panels, blocks, 512 or 256] and float16 [panels, blocks, 16].
    """
    n_out, n_blocks, _ = quantised.quants.shape
    padding = -n_out % PANEL_ROWS
    quants = np.pad(quantised.quants, ((0, padding), (0, 0), (0, 0)))
    groups = quants.reshape(-1, PANEL_ROWS, n_blocks, 8, 4).transpose(0, 2, 3, 1, 4)
    groups = groups.reshape(
        -1, n_blocks, 8, 4 * PANEL_ROWS
    )  # [panel, block, group, row and column]
    groups = np.ascontiguousarray(groups).view(np.uint8)
    if quantised.bits == 4:
        groups = groups[:, :, :4] | groups[:, :, 4:] << 4
    parts = [groups.reshape(len(groups), n_blocks, -1), _by_panel(quantised.scales)]
    if quantised.minimums is not None:
        parts.append(_by_panel(quantised.minimums))
    return parts


def _by_panel(per_block: np.ndarray) -> np.ndarray:
    """[n_out, n_blocks] -> [panels, blocks, 16]."""
    padded = np.pad(per_block, ((0, -len(per_block) % PANEL_ROWS), (0, 0)))
    by_panel = padded.reshape(-1, PANEL_ROWS, padded.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(by_panel, dtype="<f2")


def _parts(
    place: NativeTensor, array: np.ndarray, looked_up: bool, rounding: Rounding
) -> list[np.ndarray]:
    """What a tensor is in the file, one array behind the other."""
    if place.kind == F32:
        return [np.ascontiguousarray(array, dtype="<f4")]
    return panels(rounding(array, BITS[place.kind], looked_up))
