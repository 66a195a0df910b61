"""Fronts, shares and neighbours: what a person is told beside the winner."""

import pytest

from merino_edge.core import space as spaces
from merino_edge.core import targets
from merino_edge.core.budget import Budget
from merino_edge.errors import BudgetError, SpecError
from merino_edge.search.config import SearchConfig
from merino_edge.search.run import run_search

NANO, TINY = targets.get("nano"), spaces.get("tiny")
BUDGET = Budget(max_params=2_000_000, max_flops=10_000_000_000)
QUICK = SearchConfig(candidates=20_000, population=128, front="latency_ms", front_points=6)


@pytest.fixture(scope="module")
def result():
    return run_search(TINY, BUDGET, QUICK, NANO)


def test_along_the_front_more_entropy_costs_more(result):
    points = result.front.points
    costs = [point.candidate.cost.latency_ms for point in points]
    totals = [point.candidate.entropy.total for point in points]
    assert costs == sorted(costs)
    assert totals == sorted(set(totals))
    assert 3 <= len(points) <= 6


def test_every_point_keeps_its_limit_and_the_budget(result):
    for point in result.front.points:
        assert point.candidate.cost.latency_ms <= point.limit * (1 + 1e-12)
        assert point.candidate.cost.n_params <= 2_000_000
        assert point.candidate.violations == ()
    assert result.front.points[-1].candidate == result.best


def test_the_exact_method_proves_every_point():
    config = SearchConfig(
        candidates=2_000, population=64, method="exact", front="n_params", front_points=3
    )
    result = run_search(TINY, BUDGET, config, NANO)
    assert [point.gap for point in result.front.points[:-1]] == [0.0] * (
        len(result.front.points) - 1
    )


def test_a_front_needs_a_cost_that_is_known():
    config = SearchConfig(candidates=1_000, population=64, front="latency_ms")
    with pytest.raises(SpecError, match="cannot be predicted"):
        run_search(TINY, BUDGET, config, targets.get("host"))


def test_shares_add_up_to_the_whole(result):
    cost, shares = result.best.cost, result.parts
    assert sum(share.n_params for share in shares) == cost.n_params
    assert sum(share.prefill_flops for share in shares) == cost.prefill_flops
    assert sum(share.latency_ms for share in shares) == pytest.approx(cost.latency_ms)
    assert sum(share.entropy for share in shares) == pytest.approx(result.best.entropy.raw)


def test_a_neighbour_of_the_optimum_breaks_a_limit_or_has_no_more_entropy():
    exact = run_search(
        TINY, BUDGET, SearchConfig(candidates=5_000, population=64, method="exact"), NANO
    )
    assert len(exact.neighbours) >= 6
    for neighbour in exact.neighbours:
        fits = not neighbour.candidate.violations
        assert not (fits and neighbour.candidate.entropy.total > exact.best.entropy.total + 1e-3)
        assert neighbour.change.startswith("block ")


@pytest.mark.slow
def test_a_larger_vocabulary_is_taken_where_its_fewer_tokens_pay():
    space = spaces.get("nano-vocab")
    config = SearchConfig(candidates=20_000, population=128)
    result = run_search(space, Budget(max_latency_ms=10.0), config, NANO)
    by_size = {run.vocab_size: run.best_total for run in result.seeds}
    assert list(by_size) == [vocabulary.size for vocabulary in space.vocabularies]
    assert result.best.architecture.vocab_size == max(by_size, key=by_size.get)
    assert result.at.tokens_per_reference != 1.0
    assert result.best.cost.latency_ms <= 10.0


def test_a_small_parameter_budget_takes_a_small_vocabulary():
    space = spaces.get("nano-vocab")
    config = SearchConfig(candidates=20_000, population=128)
    budget = Budget(max_params=1_700_000, max_flops=20_000_000_000)
    assert run_search(space, budget, config, NANO).best.architecture.vocab_size <= 4096


def test_only_if_no_vocabulary_fits_is_the_budget_impossible():
    space = spaces.get("nano-vocab")
    budget = Budget(max_params=900_000, max_flops=20_000_000_000)
    with pytest.raises(BudgetError, match="nano-vocab"):
        run_search(space, Budget(max_params=100_000, max_flops=10**10), QUICK, NANO)
    config = SearchConfig(candidates=2_000, population=64)
    assert run_search(space, budget, config, NANO).best.architecture.vocab_size == 2048
