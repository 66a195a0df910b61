"""The table of entropies: three ways to one figure, every shape once, a file that tells all."""

import json
import math

import numpy as np
import pytest
from doubles import llama_architecture, tiny_architecture
from hypothesis import given, settings
from hypothesis import strategies as st

from merino_edge.core import space as spaces
from merino_edge.core.entropy import matrix_entropy, network_entropy
from merino_edge.core.entropy_table import (
    SCHEMA,
    architecture_shapes,
    by_svd,
    entropy_table,
    monte_carlo,
    read_entropy_table,
    space_shapes,
    write_entropy_table,
)
from merino_edge.errors import FormatError, SpecError

# What is left after the first correction for finite size, seen over thousands of draws.
LIMIT_ERROR = 3e-4

sides = st.integers(1, 96)
noise = st.floats(0.1, 10.0)


@settings(max_examples=6, deadline=None)
@given(m=st.integers(64, 160), n=st.integers(64, 160), seed=st.integers(0, 2**32))
def test_closed_form_is_the_mean_over_draws_for_any_shape(m, n, seed):
    drawn = monte_carlo(m, n, 1.0, 24, seed)
    error = drawn.std / math.sqrt(drawn.draws) / drawn.mean
    # Five standard errors: chance alone passes them once in two million examples.
    difference = matrix_entropy(m, n) / drawn.mean - 1.0
    assert abs(difference) < LIMIT_ERROR + 5 * error


@pytest.mark.parametrize(
    ("m", "n", "eps", "tolerance"),
    [
        (64, 64, 1.0, 5e-3),
        (64, 256, 1.0, 2e-3),
        (96, 144, 1.0, 3e-3),
        (256, 256, 1.0, 2e-3),
        (128, 192, 0.1, 2e-3),
        (128, 192, 10.0, 2e-3),
    ],
)
def test_closed_form_is_near_the_mean_whatever_the_noise(m, n, eps, tolerance):
    drawn = monte_carlo(m, n, eps, 48, 0).mean
    assert matrix_entropy(m, n, eps) == pytest.approx(drawn, rel=tolerance)


@given(m=sides, n=sides, eps=noise, draws=st.integers(1, 3), seed=st.integers(0, 2**64))
def test_cholesky_equals_the_singular_values_of_the_same_draws(m, n, eps, draws, seed):
    fast, slow = monte_carlo(m, n, eps, draws, seed), by_svd(m, n, eps, draws, seed)
    assert fast.mean == pytest.approx(slow.mean, rel=1e-9)
    assert fast.draws == slow.draws == draws
    if draws == 1:
        assert fast.std is slow.std is None
    else:
        assert fast.std == pytest.approx(slow.std, rel=1e-6, abs=1e-9 * slow.mean)


def test_singular_values_are_the_definition():
    """One draw written out: the matrix that the seed names, and the determinant itself."""
    w = np.random.default_rng((7, 3, 5)).standard_normal((3, 5))
    expected = np.log(np.linalg.det(np.eye(3) + w @ w.T / 0.25))
    assert by_svd(3, 5, 0.5, 1, 7).mean == pytest.approx(expected, rel=1e-12)


@given(m=sides, n=sides, seed=st.integers(0, 2**32))
def test_a_transposed_shape_has_the_same_draws(m, n, seed):
    assert monte_carlo(m, n, 1.0, 2, seed) == monte_carlo(n, m, 1.0, 2, seed)


@pytest.mark.parametrize(
    ("draws", "seed", "field"), [(0, 0, "draws"), (-1, 0, "draws"), (1, -1, "seed")]
)
@pytest.mark.parametrize("way", [monte_carlo, by_svd])
def test_nothing_to_draw_is_refused_by_name(way, draws, seed, field):
    with pytest.raises(SpecError, match=field):
        way(4, 4, 1.0, draws, seed)


def test_the_shapes_of_a_space_are_its_grid_and_no_shape_twice():
    paper = spaces.get("paper")
    expected = {(e, e) for e in paper.d_models}
    expected |= {(e, round(r * e)) for e in paper.d_models for r in paper.ffn_ratios}
    assert set(space_shapes(paper)) == expected
    assert len(space_shapes(paper)) == len(expected) == 105


def test_a_ratio_below_one_gives_no_shape_that_is_another_transposed():
    small = spaces.get("tiny").replace(d_models=(64, 128), ffn_ratios=(0.5, 2.0))
    assert space_shapes(small) == ((32, 64), (64, 64), (64, 128), (128, 128), (128, 256))


@pytest.mark.parametrize("gated", [False, True])
def test_every_member_finds_its_shapes_in_the_table_of_its_space(gated):
    tiny = spaces.get("tiny").replace(gated_ffn=gated)
    table = set(space_shapes(tiny))
    for genome in tiny.sample(np.random.default_rng(0), 50):
        assert set(architecture_shapes(tiny.decode(genome))) <= table


def test_grouped_and_gated_layers_have_their_own_shapes():
    assert architecture_shapes(llama_architecture()) == ((8, 16), (16, 16), (16, 24))


def test_a_decoders_entropy_can_be_added_up_from_its_table():
    a = llama_architecture()
    nats = {(r.m, r.n): r.closed_form for r in entropy_table(architecture_shapes(a)).rows}
    layer = 2 * nats[16, 16] + 2 * nats[8, 16] + 3 * nats[16, 24]
    assert network_entropy(a).raw == pytest.approx(2 * layer)


def test_a_row_does_not_depend_on_the_others():
    shapes = architecture_shapes(tiny_architecture())
    whole = entropy_table(shapes, draws=3, seed=5)
    assert entropy_table(shapes[-1:], draws=3, seed=5).rows == whole.rows[-1:]
    assert entropy_table(shapes, draws=3, seed=6).rows != whole.rows


def test_a_table_without_draws_has_the_closed_form_alone():
    table = entropy_table([(16, 24)], eps=2.0)
    assert table.rows[0] == (16, 24, matrix_entropy(16, 24, 2.0), None, None, None)
    assert table.largest_difference is None


def test_a_row_holds_the_spread_and_the_distance_of_the_closed_form():
    (row,) = entropy_table([(16, 24)], draws=9, seed=1).rows
    drawn = monte_carlo(16, 24, 1.0, 9, 1)
    assert (row.drawn_mean, row.drawn_std) == (drawn.mean, drawn.std)
    assert row.closed_form == pytest.approx((1.0 + row.relative_difference) * drawn.mean)


def test_the_table_knows_its_worst_row():
    table = entropy_table([(4, 4), (64, 128)], draws=5)
    small, large = (abs(row.relative_difference) for row in table.rows)
    assert table.largest_difference == small > large


@pytest.mark.parametrize("draws", [0, 1, 4])
def test_a_table_survives_the_disk_and_says_how_it_was_made(tmp_path, draws):
    path = str(tmp_path / "table.json")
    table = entropy_table(architecture_shapes(tiny_architecture()), 0.5, draws, 3)
    write_entropy_table(path, table)
    assert read_entropy_table(path) == table
    document = json.loads((tmp_path / "table.json").read_text("utf-8"))
    head = {name: document[name] for name in ("schema", "eps", "draws", "seed")}
    assert head == {"schema": SCHEMA, "eps": 0.5, "draws": draws, "seed": 3}


def test_a_damaged_table_is_refused_with_the_field(tmp_path):
    path = tmp_path / "table.json"
    write_entropy_table(str(path), entropy_table([(4, 4), (4, 8)]))
    path.write_text(path.read_text("utf-8").replace('"n": 8', '"n": "8"'), "utf-8")
    with pytest.raises(FormatError) as caught:
        read_entropy_table(str(path))
    assert caught.value.field == "rows[1].n"


@pytest.mark.parametrize(("options", "field"), [({"eps": 0.0}, "eps"), ({"draws": -1}, "draws")])
def test_a_bad_option_is_refused_by_name(options, field):
    with pytest.raises(SpecError, match=field):
        entropy_table([(4, 4)], **options)


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 1024])
@pytest.mark.parametrize("ratio", [1, 2])
def test_the_table_of_the_paper_space_equals_draws(width, ratio):
    # 0.2 % is what two draws of one square matrix differ by at this size.
    drawn = monte_carlo(width, round(width * ratio), 1.0, 3, 0).mean
    assert matrix_entropy(width, round(width * ratio)) == pytest.approx(drawn, rel=2e-3)
