"""The fast road equals the slow one: populations as arrays against one architecture at a time."""

import numpy as np
import pytest

from merino_edge.core import space as spaces
from merino_edge.core import targets
from merino_edge.core.cost import Pricing, WorkPoint, price
from merino_edge.core.entropy import EntropyConfig, network_entropy
from merino_edge.search.tables import Tables

LLAMA = spaces.get("tiny").replace(
    name="llama-like",
    norm="rmsnorm",
    position="rope",
    activation="silu",
    gated_ffn=True,
    attention_bias=False,
    ffn_bias=False,
    tie_embeddings=False,
    monotone=False,
)
SPACES = [*spaces.PRESETS.values(), LLAMA]
# A target whose cache keeps the smaller blocks, so that both sides of the rule are met.
WITH_CACHE = targets.get("nano")._replace(name="with-cache", block_cache_bytes=500_000)
TARGETS = [*targets.TARGETS.values(), WITH_CACHE]
N = 40


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_costs_of_a_population_equal_those_of_each_member(space, target):
    at = WorkPoint(context_len=space.max_seq_len)
    genomes = space.sample(np.random.default_rng(1), N)
    costs = Tables.build(space, Pricing.by_roofline(target, at), EntropyConfig()).costs(genomes)
    reports = [price(space.decode(genome), target, at) for genome in genomes]
    for name in ("n_params", "prefill_flops", "decode_flops_per_token", "peak_memory_bytes"):
        assert getattr(costs, name).tolist() == [getattr(report, name) for report in reports]
    for name in ("latency_ms", "prefill_ms", "energy_mj_per_token"):
        expected = [getattr(report, name) for report in reports]
        if getattr(costs, name) is None:
            assert set(expected) == {None}
        else:
            assert getattr(costs, name) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
@pytest.mark.parametrize("form", ["factor", "hard", "off", "literal"])
@pytest.mark.parametrize("most_growth", [None, 1.0, 1.7])
def test_entropies_of_a_population_equal_those_of_each_member(space, form, most_growth):
    config = EntropyConfig(2.0, 0.5, eps=0.3, gamma0=0.03, form=form, most_growth=most_growth)
    genomes = space.sample(np.random.default_rng(2), N)
    entropies = Tables.build(space, Pricing.by_roofline(WITH_CACHE, WorkPoint()), config).entropies(
        genomes
    )
    scores = [network_entropy(space.decode(genome), config) for genome in genomes]
    for name in ("raw", "gamma", "effectiveness", "total"):
        expected = [getattr(score, name) for score in scores]
        assert getattr(entropies, name) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_no_member_is_cheaper_than_the_smallest(space):
    tables = Tables.build(space, Pricing.by_roofline(WITH_CACHE, WorkPoint()), EntropyConfig())
    smallest = tables.costs(space.smallest()[None])
    costs = tables.costs(space.sample(np.random.default_rng(3), 5000))
    for name in costs._fields:
        assert (getattr(costs, name) >= getattr(smallest, name)).all(), name
