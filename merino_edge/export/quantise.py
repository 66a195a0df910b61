"""Matrices in whole numbers of 8 or 4 bits: round to nearest, blocks of 32 columns.

The one idea: whole numbers, scales and minimums are kept apart from any file, so that the native
file and an ONNX graph (MatMulNBits, whose blocks are the same) hold equal numbers. A scale is
rounded to float16 *before* the integers are chosen, so what a reader multiplies with is what the
integers were fitted to.

Int8 takes a block's largest value to 127, or a little below where that is nearer to the rest of the
block: nothing is clipped. Int4 spreads its 16 steps from the block's smallest value
to its largest, in one of two ways, chosen for each matrix:

- *Whole zero points*: zero itself is one of the steps. MatMulNBits takes these.
- *Free minimums*: the steps begin at the smallest value. Weights that come from such blocks (a
  GGUF's Q4_1) come back exactly; for others it is hardly better.

Measured on SmolLM2-135M (a Q4_1 file; WikiText-2 test, 8 x 512 tokens, only weights rounded),
perplexity as a multiple of float32's:

================================  =========================  ============================
4 bits                            all but the embedding      the embedding, from 8 bits
================================  =========================  ============================
symmetric, largest value at -8    1.126                      1.094
whole zero points                 1.167                      1.059
free minimums                     1.000                      1.060
... with the least squared error  1.000                      1.083
================================  =========================  ============================

The last row clips a block's extremes where that lowers the squared error, and makes a worse model:
so with 4 bits nothing is searched. With 8 bits, where nothing is clipped, it helps: the native
decoder's perplexity is 1.0034 x float32's with the 16 scales of ``INT8_TOPS`` and 1.0060 x with 127
alone (32,768 tokens, 8-bit activations included). The embedding is dear in any 4 bits, and stays
at 8 (``tensor_kinds``) unless the precision is "int4-all".
"""

from dataclasses import dataclass

import numpy as np

from merino_edge.errors import SpecError
from merino_edge.formats.native_file import BLOCK_COLUMNS

MOST_INT4, MOST_INT8 = 15, 127
# Free minimums cost a graph an addition at every product, so they must buy something: at most this
# share of the squared error that whole zero points leave.
WORTHWHILE = 0.5
INT8_TOPS = tuple(range(127, 111, -1))
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Quantised:
    """A matrix [n_out, n_in] in whole numbers; columns padded to blocks with zeros.

    Attributes:
        quants: int8 [n_out, n_blocks, 32]; -127 to 127, or 0 to 15.
        scales: float16 [n_out, n_blocks].
        minimums: float16 [n_out, n_blocks]: value = scale * quant + minimum. None for 8 bits.
        zeros: uint8 [n_out, n_blocks], 0 to 15, where every minimum is -zero * scale (rounded to
            float16); otherwise None.
        n_in: Columns without the padding.
        bits: 8 or 4.
    """

    quants: np.ndarray
    scales: np.ndarray
    minimums: np.ndarray | None
    zeros: np.ndarray | None
    n_in: int
    bits: int


def quantise(matrix: np.ndarray, bits: int, looked_up: bool = False) -> Quantised:
    """Round a float matrix to whole numbers.

    Args:
        matrix: float [n_out, n_in].
        bits: Of a value, 8 or 4.
        looked_up: Its rows are read one by one, too; a graph can do so with whole zero points only.

    Raises:
        SpecError: A value is not finite, or beyond what float16 scales and minimums reach.
    """
    blocks = _blocks(np.asarray(matrix, dtype=np.float32))
    _check_range(blocks, bits)
    n_in = matrix.shape[1]
    if bits == 8:
        return _int8(blocks, n_in)
    whole = _int4(blocks, *_whole_zeros(blocks), n_in)
    if looked_up:
        return whole
    free = _int4(blocks, *_free_minimums(blocks), None, n_in)
    worth = _squared_error(blocks, free) <= WORTHWHILE * _squared_error(blocks, whole)
    return free if worth else whole


def dequantise(quantised: Quantised) -> np.ndarray:
    """The matrix float32 [n_out, n_in] that the whole numbers stand for."""
    values = _values(quantised)
    return np.ascontiguousarray(values.reshape(len(values), -1)[:, : quantised.n_in])


def _blocks(matrix: np.ndarray) -> np.ndarray:
    """[n_out, n_in] -> [n_out, n_blocks, 32], zeros behind the last column."""
    n_out, n_in = matrix.shape
    padding = -n_in % BLOCK_COLUMNS
    if padding:
        matrix = np.pad(matrix, ((0, 0), (0, padding)))
    return matrix.reshape(n_out, -1, BLOCK_COLUMNS)


def _check_range(blocks: np.ndarray, bits: int) -> None:
    largest = float(np.abs(blocks).max()) if blocks.size else 0.0
    most = 65504.0 * (MOST_INT8 if bits == 8 else 1)
    if not largest <= most:  # also true of NaN
        raise SpecError(
            f"a weight is {largest}; {bits}-bit weights reach {most:.0f}.",
            note="scales and minimums of blocks are float16.",
        )


def _int8(blocks: np.ndarray, n_in: int) -> Quantised:
    quants = np.empty(blocks.shape, dtype=np.int8)
    scales = np.empty(blocks.shape[:2], dtype=np.float16)
    for first in range(0, len(blocks), ROWS_AT_ONCE):  # what is tried again stays in the cache
        rows = slice(first, first + ROWS_AT_ONCE)
        quants[rows], scales[rows] = _best_int8(blocks[rows])
    return Quantised(quants, scales, None, None, n_in, 8)


def _best_int8(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the scales that INT8_TOPS say, each block's with the least squared error."""
    largest = np.abs(blocks).max(axis=2)
    best_quants, best_scales, best_error = _rounded_int8(blocks, largest, INT8_TOPS[0])
    for top in INT8_TOPS[1:]:
        if not best_error.any():  # a block that was in 8 bits already
            break
        quants, scales, error = _rounded_int8(blocks, largest, top)
        better = error < best_error
        best_quants[better], best_scales[better] = quants[better], scales[better]
        best_error[better] = error[better]
    return best_quants, best_scales


def _rounded_int8(
    blocks: np.ndarray, largest: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quants, scales and squared error of each block, its largest value put at ``top``."""
    scales = (largest / np.float32(top)).astype(np.float16)
    quants = np.clip(np.rint(blocks * _inverse(scales)), -MOST_INT8, MOST_INT8)
    difference = quants * scales.astype(np.float32)[:, :, None] - blocks
    return quants.astype(np.int8), scales, np.einsum("rbc,rbc->rb", difference, difference)


def _int4(
    blocks: np.ndarray,
    scales: np.ndarray,
    minimums: np.ndarray,
    zeros: np.ndarray | None,
    n_in: int,
) -> Quantised:
    steps = (blocks - minimums.astype(np.float32)[:, :, None]) * _inverse(scales)
    quants = np.clip(np.rint(steps), 0, MOST_INT4).astype(np.int8)
    return Quantised(quants, scales, minimums, zeros, n_in, 4)


def _free_minimums(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = blocks.min(axis=2), blocks.max(axis=2)
    return ((high - low) / np.float32(MOST_INT4)).astype(np.float16), low.astype(np.float16)


def _whole_zeros(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The zero point with the smallest scale that reaches both ends of the block."""
    low, high = np.minimum(blocks.min(axis=2), 0), np.maximum(blocks.max(axis=2), 0)
    scales = np.full(low.shape, np.inf, dtype=np.float32)
    zeros = np.zeros(low.shape, dtype=np.uint8)
    for zero in range(MOST_INT4 + 1):
        needed = np.maximum(_over(-low, zero), _over(high, MOST_INT4 - zero))
        better = needed < scales
        scales[better], zeros[better] = needed[better], zero
    scales = scales.astype(np.float16)
    return scales, (-zeros.astype(np.float32) * scales).astype(np.float16), zeros


def _over(reach: np.ndarray, steps: int) -> np.ndarray:
    """The scale that reaches so far in so many steps."""
    if steps:
        return reach / np.float32(steps)
    return np.where(reach > 0, np.float32(np.inf), np.float32(0))


def _inverse(scales: np.ndarray) -> np.ndarray:
    """1 / scale for every column; a scale that float16 rounds to zero leaves its block zero."""
    wide = scales.astype(np.float32)[:, :, None]
    return np.divide(1.0, wide, out=np.zeros_like(wide), where=wide != 0)


def _values(quantised: Quantised) -> np.ndarray:
    values = quantised.quants * quantised.scales.astype(np.float32)[:, :, None]
    if quantised.minimums is not None:
        values += quantised.minimums.astype(np.float32)[:, :, None]
    return values


def _squared_error(blocks: np.ndarray, quantised: Quantised) -> float:
    return float(np.square(_values(quantised) - blocks).sum(dtype=np.float64))
