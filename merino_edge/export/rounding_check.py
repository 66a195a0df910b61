"""Are the weights of a native file those of its source? Asked of every single one.

The one idea: rounding is bounded, so a stored weight that was rounded rightly stands within half a
step of its source. A wrong scale, a block in another's place or a lost minimum moves weights by
whole steps; in the logits of a large model they would drown in the rounding of activations.
"""

from collections.abc import Mapping

import numpy as np

from merino_edge.errors import ParityError
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.native_file import BLOCK_COLUMNS, F32, Q4, NativeTensor, read_tensors
from merino_edge.runtime.native_map import matrix, minimums_of, scales_of

# In steps: half of one, and what rounding the scale itself to float16 adds at the block's far end.
HALF_STEP = 0.5 + 127 * 2.0**-11
# A minimum is rounded to float16 as well: 2**-11 of it. Below 2**-14 float16 has steps of 2**-24,
# which move 127 whole numbers by half of that each.
ROUNDED_MINIMUM, SMALLEST = 2.0**-11, 127 * 2.0**-25


def check_rounding(path: str, a: Architecture, tensors: Mapping[str, np.ndarray]) -> None:
    """Compare every weight of a native file with its source.

    Args:
        path: The native file.
        a: Its architecture.
        tensors: The source, by name.

    Raises:
        FormatError: The file is damaged, or of another architecture.
        ParityError: Names the first tensor that is wrong.
    """
    data = np.memmap(path, dtype=np.uint8, mode="r")
    for name, place in read_tensors(path, a).items():
        stored = matrix(data, place)
        difference = np.abs(stored - np.asarray(tensors[name]).reshape(stored.shape))
        beyond = ~(difference <= _allowed(data, place))  # NaN is beyond, too
        if beyond.any():
            raise ParityError(
                f"{int(beyond.sum())} of {beyond.size} stored weights of '{name}' are not their "
                f"source rounded: they are off by up to {float(difference.max()):.3g}.",
                max_abs_diff=float(difference.max()),
            )


def _allowed(data: np.ndarray, place: NativeTensor) -> np.ndarray:
    """How far each weight may be from its source, [n_out, n_in] or one number for all."""
    if place.kind == F32:
        return np.zeros(1, dtype=np.float32)
    per_block = HALF_STEP * scales_of(data, place).astype(np.float32) + SMALLEST
    if place.kind == Q4:
        per_block += ROUNDED_MINIMUM * np.abs(minimums_of(data, place).astype(np.float32))
    columns = np.repeat(per_block, BLOCK_COLUMNS, axis=1)
    return columns[: place.n_out, : place.n_in]
