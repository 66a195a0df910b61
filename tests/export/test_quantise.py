"""Rounding to 8 and 4 bits: bounded errors, zeros stay zeros, padding is invisible."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from merino_edge.errors import SpecError
from merino_edge.export.quantise import dequantise, quantisation_error, quantise

MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 70)),
    elements=st.floats(-100, 100, width=32).filter(lambda v: v == 0 or abs(v) > 1e-2),
)


def largest_of_block(matrix):
    """|largest| of the block of each value, same shape as the matrix."""
    padded = np.pad(np.abs(matrix), ((0, 0), (0, -matrix.shape[1] % 32)))
    largest = padded.reshape(len(matrix), -1, 32).max(axis=2)
    return np.repeat(largest, 32, axis=1)[:, : matrix.shape[1]]


@given(MATRICES)
def test_int8_is_within_half_a_step_of_its_block(matrix):
    difference = np.abs(dequantise(quantise(matrix, 8)) - matrix)

    # half a step, and what float16 makes of the scale: 127 x 2^-11 of a step at the most
    assert (difference <= largest_of_block(matrix) / 127 * 0.57 + 1e-7).all()


@given(MATRICES)
def test_int4_is_never_worse_than_symmetric_rounding_to_7(matrix):
    blocks = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % 32))).reshape(len(matrix), -1, 32)
    scale = (np.abs(blocks).max(axis=2, keepdims=True) / 7).astype(np.float16).astype(np.float32)
    steps = np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale != 0)
    plain = np.clip(np.rint(steps), -8, 7) * scale
    plain_error = np.square(plain - blocks).sum()

    error = np.square(dequantise(quantise(matrix, 4)) - matrix).sum()

    assert error <= plain_error * (1 + 1e-4) + 1e-9


@given(MATRICES)
def test_int4_is_within_one_and_a_half_steps_of_its_block(matrix):
    difference = np.abs(dequantise(quantise(matrix, 4)) - matrix)

    assert (difference <= largest_of_block(matrix) / 6.5 * 1.51).all()


@pytest.mark.parametrize("bits", [8, 4])
@given(data=st.data())
def test_zeros_stay_zeros(bits, data):
    matrix = data.draw(MATRICES)

    assert (dequantise(quantise(matrix, bits))[matrix == 0] == 0).all()


@pytest.mark.parametrize("bits", [8, 4])
def test_columns_are_padded_with_zeros_that_come_back_as_nothing(bits):
    matrix = np.random.RandomState(0).standard_normal((3, 33)).astype(np.float32)
    quantised = quantise(matrix, bits)

    assert quantised.quants.shape == (3, 2, 32)
    assert (quantised.quants[:, 1, 1:] == 0).all()
    assert dequantise(quantised).shape == (3, 33)


@pytest.mark.parametrize(("bits", "low", "high"), [(8, -127, 127), (4, -8, 7)])
def test_whole_numbers_stay_in_their_range_and_use_it(bits, low, high):
    matrix = np.random.RandomState(0).standard_normal((64, 256)).astype(np.float32)
    quants = quantise(matrix, bits).quants

    assert quants.min() == low
    assert quants.max() == high


@pytest.mark.parametrize(("bits", "least", "most"), [(8, 0.003, 0.008), (4, 0.06, 0.1)])
def test_error_of_normal_weights_is_what_the_bits_allow(bits, least, most):
    matrix = np.random.RandomState(0).standard_normal((64, 256)).astype(np.float32)

    assert least < quantisation_error(matrix, quantise(matrix, bits)).relative_rms < most


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e9])
def test_weights_beyond_the_range_are_refused(bits, value):
    matrix = np.ones((2, 40), np.float32)
    matrix[1, 3] = value

    with pytest.raises(SpecError, match="a weight is"):
        quantise(matrix, bits)


def test_values_too_small_for_a_scale_become_zero():
    matrix = np.full((1, 32), 1e-12, np.float32)

    assert (dequantise(quantise(matrix, 8)) == 0).all()
