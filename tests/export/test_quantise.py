"""Rounding to 8 and 4 bits: bounded errors, zeros stay zeros, padding is invisible."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from merino_edge.errors import SpecError
from merino_edge.export.quantise import dequantise, quantise

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

    # half a step of the widest scale, and what float16 makes of it: 127 x 2^-11 of a step at most
    assert (difference <= largest_of_block(matrix) / 112 * 0.57 + 1e-7).all()


def test_int8_is_nearer_than_with_the_largest_value_at_127():
    matrix = np.random.RandomState(0).standard_normal((64, 256)).astype(np.float32)
    scale = largest_of_block(matrix) / 127
    plain = np.rint(matrix / scale) * scale

    error = np.square(dequantise(quantise(matrix, 8)) - matrix).sum()

    assert error < 0.92 * np.square(plain - matrix).sum()


@given(
    arrays.arrays(np.int8, (3, 2, 32), elements=st.integers(-127, 127)),
    arrays.arrays(np.float16, (3, 2), elements=st.floats(0.25, 2, width=16)),
)
def test_weights_that_were_in_8_bits_come_back_exactly(quants, scales):
    quants[:, :, 0] = 127  # as whoever made the file has seen to
    matrix = (quants * scales.astype(np.float32)[..., None]).reshape(3, 64)

    quantised = quantise(matrix, 8)

    np.testing.assert_array_equal(quantised.quants, quants)
    np.testing.assert_array_equal(quantised.scales, scales)


@given(MATRICES)
def test_int4_is_within_half_a_step_of_its_block(matrix):
    """A step is at most the block's largest value / 7.5, if zero must be one of 16 steps."""
    difference = np.abs(dequantise(quantise(matrix, 4)) - matrix)

    # and what float16 makes of a scale, 15 times, and of a minimum
    assert (difference <= largest_of_block(matrix) * (0.5 / 7 + 2e-3)).all()


@given(
    arrays.arrays(np.int8, (3, 2, 32), elements=st.integers(0, 15)),
    arrays.arrays(np.float16, (3, 2), elements=st.floats(0.25, 2, width=16)),
    arrays.arrays(np.float16, (3, 2), elements=st.floats(-16, 16, width=16)),
)
def test_weights_that_come_from_such_blocks_come_back_exactly(quants, scales, minimums):
    """A GGUF's Q4_1: its whole numbers, scales and minimums are found again."""
    quants[:, :, 0], quants[:, :, 1] = 0, 15  # as whoever made the file has seen to
    values = quants * scales.astype(np.float32)[..., None] + minimums.astype(np.float32)[..., None]
    matrix = values.reshape(3, 64)

    np.testing.assert_allclose(dequantise(quantise(matrix, 4)), matrix, rtol=0, atol=1e-5)


def test_natural_weights_get_zero_points_that_are_whole():
    quantised = quantise(np.random.RandomState(0).standard_normal((64, 256)).astype(np.float32), 4)

    steps = -quantised.zeros.astype(np.float32) * quantised.scales.astype(np.float32)
    np.testing.assert_array_equal(quantised.minimums, steps.astype(np.float16))
    assert quantised.zeros.min() > 3
    assert quantised.zeros.max() < 12


def test_free_minimums_are_taken_where_they_halve_the_squared_error():
    shifted = np.random.RandomState(0).standard_normal((64, 256)).astype(np.float32) + 20

    assert quantise(shifted, 4).zeros is None
    assert quantise(shifted, 4, looked_up=True).zeros is not None


@pytest.mark.parametrize("bits", [8, 4])
@given(data=st.data())
def test_zeros_stay_zeros_where_zero_is_a_step(bits, data):
    matrix = data.draw(MATRICES)
    quantised = quantise(matrix, bits)

    if bits == 8 or quantised.zeros is not None:  # else a zero is as near as any other value
        # float16 rounds a minimum to 2^-11 of itself
        allowed = 0 if bits == 8 else largest_of_block(matrix)[matrix == 0] * 2**-10
        assert (np.abs(dequantise(quantised)[matrix == 0]) <= allowed).all()


@pytest.mark.parametrize("bits", [8, 4])
def test_columns_are_padded_with_zeros_that_come_back_as_nothing(bits):
    matrix = np.random.RandomState(0).standard_normal((3, 33)).astype(np.float32)
    quantised = quantise(matrix, bits)

    assert quantised.quants.shape == (3, 2, 32)
    if bits == 8:
        assert (quantised.quants[:, 1, 1:] == 0).all()
    assert dequantise(quantised).shape == (3, 33)


@pytest.mark.parametrize(("bits", "low", "high"), [(8, -127, 127), (4, 0, 15)])
def test_whole_numbers_stay_in_their_range_and_use_it(bits, low, high):
    matrix = np.random.RandomState(0).standard_normal((64, 256)).astype(np.float32)
    quants = quantise(matrix, bits).quants

    assert quants.min() == low
    assert quants.max() == high


@pytest.mark.parametrize(("bits", "least", "most"), [(8, 0.003, 0.008), (4, 0.06, 0.1)])
def test_error_of_normal_weights_is_what_the_bits_allow(bits, least, most):
    matrix = np.random.RandomState(0).standard_normal((64, 256)).astype(np.float32)

    difference = dequantise(quantise(matrix, bits)) - matrix
    assert least < np.sqrt(np.mean(difference**2) / np.mean(matrix**2)) < most


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e9])
def test_weights_beyond_the_range_are_refused(bits, value):
    matrix = np.ones((2, 40), np.float32)
    matrix[1, 3] = value

    with pytest.raises(SpecError, match="a weight is"):
        quantise(matrix, bits)


def test_values_too_small_for_a_scale_become_zero():
    matrix = np.full((1, 32), 1e-12, np.float32)

    for bits in (8, 4):
        assert (dequantise(quantise(matrix, bits)) == 0).all()
