"""Baselines: what they count, and that the search takes any of them."""

import numpy as np
import pytest

from merino_edge.core import counting, targets
from merino_edge.core import space as spaces
from merino_edge.core.budget import Budget
from merino_edge.core.cost import Pricing, WorkPoint
from merino_edge.core.entropy import EntropyConfig, network_entropy
from merino_edge.core.space import SearchSpace
from merino_edge.errors import SpecError
from merino_edge.formats.weights import weight_shapes
from merino_edge.search.config import SearchConfig
from merino_edge.search.objectives import OBJECTIVES, per_member
from merino_edge.search.run import run_search
from merino_edge.search.tables import Tables

TINY = spaces.get("tiny")
DEEP = SearchSpace("deep", 2, (32, 64), (1.0, 2.0), (2, 5), 16, 100, 64)
BUDGET = Budget(max_params=2_000_000, max_flops=10_000_000_000)


@pytest.mark.parametrize("space", [TINY, DEEP], ids=lambda space: space.name)
def test_each_baseline_counts_what_it_says(space):
    pricing = Pricing.by_roofline(targets.get("nano"), WorkPoint(context_len=space.max_seq_len))
    tables = Tables.build(space, pricing, EntropyConfig())
    genomes = space.sample(np.random.default_rng(0), 30)
    members = [space.decode(genome) for genome in genomes]
    values = {name: objective(genomes, tables) for name, objective in OBJECTIVES.items()}
    assert values["params"].tolist() == [counting.n_params(a) for a in members]
    assert values["flops"].tolist() == [counting.prefill_flops(a) for a in members]
    assert values["depth"].tolist() == [a.n_layers for a in members]
    assert values["entropy"] == pytest.approx([network_entropy(a).total for a in members])
    assert ((values["random"] >= 0.0) & (values["random"] < 1.0)).all()
    for a, found in zip(members, values["decoder_params"], strict=True):
        own = [b._replace(depth=1) for b in a.blocks for _ in range(b.depth)]
        shapes = weight_shapes(a._replace(blocks=tuple(own)))
        expected = sum(
            int(np.prod(shape))
            for name, shape in shapes.items()
            if name.startswith("blocks.") and ".joint." not in name
        )
        assert found == expected


def test_random_is_spread_evenly_and_does_not_change():
    tables = Tables.build(
        TINY, Pricing.by_roofline(targets.get("nano"), WorkPoint()), EntropyConfig()
    )
    genomes = TINY.sample(np.random.default_rng(1), 4000)
    values = OBJECTIVES["random"](genomes, tables)
    assert np.array_equal(values, OBJECTIVES["random"](genomes, tables))
    assert np.abs(np.histogram(values, 10, (0, 1))[0] - 400).max() < 100


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_search_maximises_any_of_them(name):
    config = SearchConfig(candidates=5_000, population=64, objective=name)
    result = run_search(TINY, BUDGET, config, targets.get("nano"))
    assert result.best.violations == ()
    assert (result.certificate is not None) == (name == "entropy")


def test_a_function_of_one_architecture_can_be_maximised():
    result = run_search(
        TINY,
        BUDGET,
        SearchConfig(candidates=1_000, population=64),
        targets.get("nano"),
        objective=per_member(lambda a: -a.n_layers),
    )
    assert result.best.architecture.n_layers == 3
    assert result.certificate is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"objective": "luck"}, "objective is 'luck', must be one of entropy"),
        ({"method": "guess"}, "method is 'guess'"),
        ({"front": "beauty"}, "front is 'beauty'"),
        ({"front_points": 1}, "front_points"),
        ({"n_seeds": 0}, "n_seeds 0"),
        ({"front": "n_params", "objective": "depth"}, "only the entropy can be proven"),
        ({"method": "exact", "objective": "depth"}, "only the entropy can be proven"),
    ],
)
def test_a_method_that_is_none_is_refused(fields, reason):
    with pytest.raises(SpecError, match=reason):
        SearchConfig(**fields)
