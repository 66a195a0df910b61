"""Matrices in whole numbers of 8 or 4 bits: round to nearest, one scale a block of 32 columns.

The one idea: integers and scales are kept apart from any file, so that the native file and an
ONNX graph (MatMulNBits, whose blocks and zero point of 8 are the same) can hold equal numbers.
A scale is rounded to float16 *before* the integers are chosen, so what a reader multiplies with is
what the integers were fitted to.

Int8 takes the largest value to 127. Int4 has one more step below zero than above (-8 to 7), so the
largest value may stand at -8, on either sign, or the block may be spread over -7 to 7; each block
takes the candidate with the least squared error. ``INT4_TOPS`` says which candidates, and why.
"""

from dataclasses import dataclass

import numpy as np

from merino_edge.errors import SpecError

BLOCK_COLUMNS = 32
# Where a block's value of largest magnitude goes; its scale is that value / top. Beyond -8 and
# below 7 something is clipped or left unused in favour of the rest of the block. Root mean square
# error, mean of 12 matrices of SmolLM2-135M: 10.5 % with 7 alone, 9.0 % with -8, 8.8 % with the
# better of the two, 8.4 % with these five (int8: 0.5 %); six more bring it to 8.2 %.
# What that does to a text is another matter. SmolLM2 over 200 tokens, numpy, against float32: int8
# 1.003 x the perplexity, int4 1.39 x with -8 alone and 1.56 x with these five; with the embedding
# in int8, 1.29 x and 1.33 x. Its weights come from blocks with a minimum of their own (Q4_1), which
# no symmetric grid of 16 values meets: such a model wants zero points before it wants a better top.
INT4_TOPS = (-8.0, -8.5, -7.5, 7.0, 6.5)
LIMITS = {8: (-127, 127), 4: (-8, 7)}


@dataclass(frozen=True)
class Quantised:
    """A matrix [n_out, n_in] in whole numbers; columns padded to blocks with zeros.

    Attributes:
        quants: int8 [n_out, n_blocks, 32]; -127 to 127, or -8 to 7.
        scales: float16 [n_out, n_blocks]; value = scale * quant. May be negative.
        n_in: Columns without the padding.
        bits: 8 or 4.
    """

    quants: np.ndarray
    scales: np.ndarray
    n_in: int
    bits: int


@dataclass(frozen=True)
class QuantisationError:
    """How far a quantised matrix is from the original.

    Attributes:
        relative_rms: Root mean square of the difference over that of the original.
        max_abs: Largest difference.
    """

    relative_rms: float
    max_abs: float


def quantise(matrix: np.ndarray, bits: int) -> Quantised:
    """Round a float matrix [n_out, n_in] to 8 or 4 bits a value.

    Raises:
        SpecError: A value is not finite, or its scale is beyond float16.
    """
    blocks = _blocks(np.asarray(matrix, dtype=np.float32))
    _check_range(blocks, bits)
    tops = (127.0,) if bits == 8 else INT4_TOPS
    quants, scales, error = _rounded(blocks, tops[0], bits)
    for top in tops[1:]:
        other_quants, other_scales, other_error = _rounded(blocks, top, bits)
        better = other_error < error
        quants[better], scales[better] = other_quants[better], other_scales[better]
        error[better] = other_error[better]
    return Quantised(quants, scales, matrix.shape[1], bits)


def dequantise(quantised: Quantised) -> np.ndarray:
    """The matrix float32 [n_out, n_in] that the whole numbers stand for."""
    values = quantised.quants * quantised.scales.astype(np.float32)[:, :, None]
    return np.ascontiguousarray(values.reshape(len(values), -1)[:, : quantised.n_in])


def quantisation_error(matrix: np.ndarray, quantised: Quantised) -> QuantisationError:
    """Compare a matrix with its quantised form."""
    difference = dequantise(quantised).astype(np.float64) - matrix
    size = float(np.sqrt(np.mean(np.square(matrix, dtype=np.float64))))
    rms = float(np.sqrt(np.mean(difference**2)))
    return QuantisationError(rms / size if size else rms, float(np.abs(difference).max()))


def _blocks(matrix: np.ndarray) -> np.ndarray:
    """[n_out, n_in] -> [n_out, n_blocks, 32], zeros behind the last column."""
    n_out, n_in = matrix.shape
    padding = -n_in % BLOCK_COLUMNS
    if padding:
        matrix = np.pad(matrix, ((0, 0), (0, padding)))
    return matrix.reshape(n_out, -1, BLOCK_COLUMNS)


def _check_range(blocks: np.ndarray, bits: int) -> None:
    largest = float(np.abs(blocks).max()) if blocks.size else 0.0
    most = float(np.finfo(np.float16).max) * 6.5 if bits == 4 else 65504.0 * 127
    if not largest <= most:  # also true of NaN
        raise SpecError(
            f"a weight is {largest}; {bits}-bit weights reach {most:.0f}.",
            note="the scale of a block is a float16.",
        )


def _rounded(
    blocks: np.ndarray, top: float, bits: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quants, scales and squared error of each block, its largest value put at ``top``."""
    low, high = LIMITS[bits]
    at = np.abs(blocks).argmax(axis=2)
    largest = np.take_along_axis(blocks, at[:, :, None], axis=2)[:, :, 0]
    scales = (largest / np.float32(top)).astype(np.float16)
    wide = scales.astype(np.float32)[:, :, None]
    # A scale that float16 rounds to zero leaves the block zero.
    inverse = np.divide(1.0, wide, out=np.zeros_like(wide), where=wide != 0)
    quants = np.clip(np.rint(blocks * inverse), low, high)
    error = np.square(quants * wide - blocks).sum(axis=2)
    return quants.astype(np.int8), scales, error
