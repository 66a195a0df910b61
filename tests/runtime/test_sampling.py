"""Picking a token, against slow twins that follow the definitions."""

import math

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from merino_edge.errors import SessionError, SpecError
from merino_edge.formats.manifest import GenerationDefaults
from merino_edge.runtime.sampling import GenerationConfig, Sampler, distribution


def slow_distribution(scores, temperature, top_k, top_p):
    """Temperature, then top-k, then top-p, as a person would do it with a list."""
    scaled = [s / temperature for s in scores]
    if 0 < top_k < len(scaled):
        kth = sorted(scaled, reverse=True)[top_k - 1]
        scaled = [s if s >= kth else -math.inf for s in scaled]
    top = max(scaled)
    weights = {i: math.exp(s - top) for i, s in enumerate(scaled) if s > -math.inf}
    kept, mass, total = [], 0.0, math.fsum(weights.values())
    for i in sorted(weights, key=lambda i: -weights[i]):
        if top_p < 1.0 and mass >= top_p * total:
            break
        kept.append(i)
        mass += weights[i]
    return {i: weights[i] / mass for i in kept}


@given(  # quarters: differences that float32 keeps, so that no tie is broken by rounding
    quarters=st.lists(st.integers(-80, 80), min_size=2, max_size=40, unique=True),
    temperature=st.floats(0.1, 5.0),
    top_k=st.integers(0, 12),
    top_p=st.sampled_from([0.05, 0.3, 0.5, 0.77, 0.95, 1.0]),
)
@settings(max_examples=300, deadline=None)
def test_top_k_and_top_p_equal_their_slow_twin(quarters, temperature, top_k, top_p):
    scores = [q / 4 for q in quarters]
    config = GenerationConfig(do_sample=True, temperature=temperature, top_k=top_k, top_p=top_p)
    ids, probabilities = distribution(np.array(scores, dtype=np.float32), config)
    expected = slow_distribution(scores, temperature, top_k, top_p)
    found = dict(zip(ids.tolist(), probabilities.tolist()))
    assert set(found) == set(expected)
    for i in found:
        assert found[i] == pytest.approx(expected[i], rel=1e-5, abs=1e-9)


def test_of_equal_scores_the_lower_ids_are_among_the_k():
    scores = np.array([1.0, 3.0, 2.0, 2.0, 2.0, 0.0], dtype=np.float32)
    ids, _ = distribution(scores, GenerationConfig(do_sample=True, top_k=3))
    assert ids.tolist() == [1, 2, 3]


def test_top_p_over_a_large_flat_vocabulary_needs_more_than_the_first_guess():
    scores = np.random.RandomState(0).standard_normal(5000).astype(np.float32) * 0.01
    config = GenerationConfig(do_sample=True, top_p=0.9)
    ids, _ = distribution(scores, config)
    assert set(ids.tolist()) == set(slow_distribution(scores.tolist(), 1.0, 0, 0.9))


def test_draws_follow_the_distribution():
    config = GenerationConfig(do_sample=True, temperature=0.7, top_k=4, seed=3)
    scores = np.array([1.0, 2.0, 0.5, 1.5, -1.0, 0.0], dtype=np.float32)
    sampler = Sampler(config, 6)
    counts = np.bincount([sampler.pick(scores) for _ in range(4000)], minlength=6)
    expected = np.zeros(6)
    for i, p in slow_distribution(scores.tolist(), 0.7, 4, 1.0).items():
        expected[i] = p
    # three standard deviations of a binomial share with n = 4000 is at most 0.024
    np.testing.assert_allclose(counts / 4000.0, expected, atol=0.024)
    assert counts[4] == counts[5] == 0


def test_the_stream_of_draws_is_the_same_on_every_machine():
    sampler = Sampler(GenerationConfig(do_sample=True, seed=7), 10)
    flat = np.zeros(10, dtype=np.float32)
    # RandomState(7).random_sample() begins 0.076, 0.780, 0.438, 0.723, 0.978, 0.538, 0.501, 0.072
    assert [sampler.pick(flat) for _ in range(8)] == [0, 7, 4, 7, 9, 5, 5, 0]


def test_temperature_zero_is_greedy():
    config = GenerationConfig(do_sample=True, temperature=0.0)
    assert Sampler(config, 3).pick(np.array([0.0, 2.0, 1.0], dtype=np.float32)) == 1


def test_repetition_penalty_counts_the_prompt_and_the_text():
    config = GenerationConfig(repetition_penalty=2.0)
    sampler = Sampler(config, 4, prompt_ids=[0])
    logits = np.array([3.0, 2.0, 1.6, -1.0], dtype=np.float32)
    # 3/2 < 2, then 2/2 < 1.6, then 3/2 is the best of 1.5, 1.0, 0.8, -1
    assert [sampler.pick(logits) for _ in range(3)] == [1, 2, 0]
    assert logits.tolist() == pytest.approx(
        [3.0, 2.0, 1.6, -1.0]
    )  # the backend's row is not touched


def test_a_penalty_makes_negative_scores_worse():
    sampler = Sampler(GenerationConfig(repetition_penalty=2.0), 2, prompt_ids=[0])
    assert sampler.pick(np.array([-1.0, -1.5], dtype=np.float32)) == 1


def test_no_numbers_from_the_model_is_an_error_not_a_token():
    for config in (GenerationConfig(), GenerationConfig(do_sample=True)):
        with pytest.raises(SessionError, match="nan"):
            Sampler(config, 3).pick(np.array([0.0, np.nan, 1.0], dtype=np.float32))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", True),
        ("min_new_tokens", -1),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("repetition_penalty", 0.0),
        ("stop", "text"),
        ("stop", [""]),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(SpecError, match="^" + field):
        GenerationConfig(**{field: value})


def test_the_callers_words_win_over_the_makers():
    defaults = GenerationDefaults(eos_token_ids=[2], do_sample=True, temperature=0.2, top_p=0.9)
    config = GenerationConfig.from_defaults(defaults, temperature=0.7, max_new_tokens=5)
    assert (config.do_sample, config.temperature, config.top_p) == (True, 0.7, 0.9)
    assert list(config.eos_token_ids) == [2]
    with pytest.raises(SpecError, match="no generation option 'top_kk'"):
        GenerationConfig.from_defaults(defaults, top_kk=3)
