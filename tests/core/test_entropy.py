"""The closed form's own rules, and the entropy of whole decoders against its definition."""

import math

import numpy as np
import pytest
from doubles import llama_architecture, tiny_architecture
from hypothesis import given
from hypothesis import strategies as st

from merino_edge.core.entropy import (
    EntropyConfig,
    effectiveness,
    matrix_entropy,
    network_entropy,
)
from merino_edge.errors import SpecError
from merino_edge.formats.architecture import Architecture, BlockSpec


def test_closed_form_equals_independent_draws_of_large_matrices():
    # Monte Carlo means over three draws, made with another program; spread about 0.1 %.
    drawn = {(512, 512): 2727.4, (512, 2048): 3833.7, (1024, 1024): 6136.1}
    for (m, n), value in drawn.items():
        assert matrix_entropy(m, n) == pytest.approx(value, rel=1e-3)


@given(m=st.integers(1, 4096), n=st.integers(1, 4096), eps=st.floats(0.01, 100.0))
def test_matrix_entropy_is_positive_symmetric_and_grows_with_the_matrix(m, n, eps):
    value = matrix_entropy(m, n, eps)
    assert math.isfinite(value)
    assert value > 0.0
    assert value == matrix_entropy(n, m, eps)
    assert matrix_entropy(m + 1, n, eps) > value


def test_a_shared_block_counts_as_often_as_it_is_applied():
    once = tiny_architecture(blocks=(BlockSpec(16, 2, 2, 32, 1),))
    thrice = tiny_architecture(blocks=(BlockSpec(16, 2, 2, 32, 3),))
    apart = tiny_architecture(blocks=(BlockSpec(16, 2, 2, 32, 1),) * 3)
    assert network_entropy(thrice).raw == pytest.approx(3 * network_entropy(once).raw)
    assert network_entropy(thrice).total == pytest.approx(network_entropy(apart).total)


def test_raw_entropy_is_four_square_matrices_and_two_of_the_feed_forward():
    score = network_entropy(tiny_architecture(), EntropyConfig(alpha1=2.0, alpha2=3.0, eps=0.5))
    first = 2 * (2 * 4 * matrix_entropy(16, 16, 0.5) + 3 * 2 * matrix_entropy(16, 32, 0.5))
    second = 2 * 4 * matrix_entropy(24, 24, 0.5) + 3 * 2 * matrix_entropy(24, 40, 0.5)
    assert score.per_block == pytest.approx((first, second))
    assert score.raw == pytest.approx(first + second)


def test_grouped_queries_and_gated_layers_are_scored_by_their_real_shapes():
    block = 2 * matrix_entropy(16, 16) + 2 * matrix_entropy(8, 16) + 3 * matrix_entropy(16, 24)
    assert network_entropy(llama_architecture()).raw == pytest.approx(2 * block)


def uniform(n_layers, d_model, n_head):
    return Architecture(
        (BlockSpec(d_model, n_head, n_head, 4 * d_model, 1),) * n_layers, 50257, 1024
    )


def test_known_decoders_have_the_effectiveness_of_their_shape():
    gpt2, opt_350m = uniform(12, 768, 12), uniform(24, 1024, 16)
    assert network_entropy(gpt2).gamma == pytest.approx(12 / 768)
    assert network_entropy(gpt2).effectiveness == pytest.approx(0.75)
    assert network_entropy(opt_350m).effectiveness == pytest.approx(0.625)


def test_gamma_uses_the_geometric_mean_of_the_widths_of_all_layers():
    score = network_entropy(tiny_architecture())  # 16, 16, 24
    assert score.gamma == pytest.approx(3 / (16 * 16 * 24) ** (1 / 3))


@pytest.mark.parametrize(
    ("form", "gamma", "expected"),
    [
        ("factor", 1 / 64, 0.75),
        ("factor", 1 / 8, 0.0),
        ("hard", 1 / 16, 1.0),
        ("hard", 1 / 15, 0.0),
        ("off", 99.0, 1.0),
        ("literal", 1 / 64, 1 - 1 / 1024),
    ],
)
def test_each_form_of_effectiveness(form, gamma, expected):
    assert effectiveness(gamma, EntropyConfig(form=form)) == pytest.approx(expected)
    assert effectiveness(np.array([gamma]), EntropyConfig(form=form)) == pytest.approx([expected])


@pytest.mark.parametrize(
    "bad",
    [
        {"eps": 0.0},
        {"eps": 1e-200},
        {"eps": 1e7},
        {"gamma0": float("nan")},
        {"alpha1": -1.0},
        {"form": "soft"},
    ],
)
def test_a_bad_constant_is_refused_by_name(bad):
    with pytest.raises(SpecError, match=next(iter(bad))):
        EntropyConfig(**bad)
