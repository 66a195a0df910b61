"""The whole search: deterministic, as good as looking at everything, honest when nothing fits."""

import json
from itertools import pairwise

import numpy as np
import pytest

from merino_edge.core import space as spaces
from merino_edge.core import targets
from merino_edge.core.budget import Budget
from merino_edge.core.cost import Pricing, WorkPoint
from merino_edge.core.entropy import EntropyConfig
from merino_edge.core.space import SearchSpace
from merino_edge.errors import BudgetError, FormatError, SchemaVersionError, SpecError
from merino_edge.formats.architecture import read_architecture
from merino_edge.search.candidate import best_first, score
from merino_edge.search.config import SearchConfig
from merino_edge.search.evolution import Evolution
from merino_edge.search.result import SearchResult
from merino_edge.search.run import run_search
from merino_edge.search.tables import Tables

NANO = targets.get("nano")
SMALL = SearchSpace("small", 2, (32, 64, 96, 128), (1.0, 1.5, 2.0), (1, 2, 3, 4), 16, 500, 64)
QUICK = SearchConfig(candidates=20_000, population=128)


def quick_search(**changes):
    question = {
        "space": spaces.get("tiny"),
        "budget": Budget(max_params=2_000_000, max_flops=10_000_000_000),
        "config": QUICK,
        "target": NANO,
    }
    question.update(changes)
    return run_search(**question)


def everything(space):
    """All genomes of a space, as one array."""
    n = space.n_choices
    codes = np.indices(n * space.n_blocks).reshape(3 * space.n_blocks, -1).T
    genomes = codes.reshape(-1, space.n_blocks, 3)
    return genomes[(np.diff(genomes[:, :, 0], axis=1) >= 0).all(axis=1)]


@pytest.mark.parametrize(
    "budget",
    [
        Budget(max_params=150_000, max_flops=500_000_000),
        Budget(max_memory_bytes=350_000),
        Budget(max_prefill_ms=0.05),
        Budget(max_energy_mj=0.2),
        Budget(max_latency_ms=0.02),
    ],
)
def test_the_winner_of_a_small_space_is_the_best_of_all_its_members(budget):
    genomes = everything(SMALL)
    assert len(genomes) == SMALL.size
    tables = Tables.build(
        SMALL, Pricing.by_roofline(NANO, WorkPoint(context_len=64)), EntropyConfig()
    )
    scores = score(genomes, tables, budget)
    first = best_first(scores)[0]
    result = quick_search(space=SMALL, budget=budget)
    assert result.best.entropy.total == pytest.approx(scores.total[first], abs=1e-5)
    assert result.best.violations == ()


@pytest.mark.slow
def test_the_winner_of_the_tiny_space_is_the_best_of_its_fourteen_million_members():
    space, budget = spaces.get("tiny"), targets.get("host").default_budget
    tables = Tables.build(
        space, Pricing.by_roofline(NANO, WorkPoint(context_len=256)), EntropyConfig()
    )
    best = 0.0
    widths, ratios, depths = space.n_choices
    blocks = np.indices((widths, ratios, depths)).reshape(3, -1).T
    for first in blocks:  # a third of the genome at a time, so that memory stays small
        rest = blocks[blocks[:, 0] >= first[0]]
        second, third = np.meshgrid(np.arange(len(rest)), np.arange(len(rest)))
        keep = rest[second.ravel(), 0] <= rest[third.ravel(), 0]
        genomes = np.stack([rest[second.ravel()[keep]], rest[third.ravel()[keep]]], axis=1)
        head = np.broadcast_to(first, (len(genomes), 1, 3))
        scores = score(np.concatenate([head, genomes], axis=1), tables, budget)
        best = max(best, scores.total[scores.excess == 0.0].max(initial=0.0))
    result = quick_search(budget=budget, config=SearchConfig(candidates=100_000))
    assert result.best.entropy.total == pytest.approx(best, abs=1e-5)


# Identities only: integers decide them, so they hold on every platform.
GOLDEN = [
    pytest.param("paper", 52_000_000, 60_000_000_000, "339d8bc9acb8", marks=pytest.mark.slow),
    pytest.param("paper", 61_000_000, 110_000_000_000, "ffe0210445cf", marks=pytest.mark.slow),
    ("paper", 64_000_000, 160_000_000_000, "09a6eec1624b"),
]


@pytest.mark.parametrize(("name", "max_params", "max_flops", "arch_id"), GOLDEN)
def test_the_paper_budgets_give_the_known_architectures(name, max_params, max_flops, arch_id):
    budget = Budget(max_params=max_params, max_flops=max_flops)
    result = quick_search(space=spaces.get(name), budget=budget, config=SearchConfig())
    assert result.best.architecture.arch_id == arch_id
    assert result.n_evaluated == 500_000


@pytest.mark.parametrize(
    ("target", "arch_id"), [("host", "d5b5147352c9"), ("nano", "304254d98d58")]
)
def test_the_default_budgets_give_the_known_architectures(target, arch_id):
    target = targets.get(target)
    space, budget = spaces.get(target.default_space), target.default_budget
    result = run_search(space, budget, SearchConfig(), target)
    assert result.best.architecture.arch_id == arch_id


@pytest.mark.slow
def test_ten_seeds_agree_on_the_architecture():
    budget = Budget(max_params=64_000_000, max_flops=160_000_000_000)
    results = [
        quick_search(space=spaces.get("paper"), budget=budget, config=SearchConfig(seed=seed))
        for seed in range(10)
    ]
    assert {result.best.architecture.arch_id for result in results} == {GOLDEN[2][3]}


def test_same_seed_same_bytes(tmp_path):
    paths = [tmp_path / name for name in ("one.json", "two.json")]
    for path in paths:
        quick_search().save(str(path))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_budget_is_kept_and_the_history_never_falls():
    steps = []
    result = quick_search(on_progress=steps.append)
    for candidate in (result.best, *result.runners_up):
        assert candidate.violations == ()
        assert candidate.cost.n_params <= 2_000_000
        assert candidate.cost.prefill_flops <= 10_000_000_000
    searched = [step for step in steps if step.stage == "evolution"]
    totals = [step.best_total for step in searched]
    assert totals == sorted(totals)
    assert searched[-1].done == searched[-1].of == result.n_evaluated == QUICK.candidates
    (history,) = [run.history for run in result.seeds]
    assert [step.best_total for step in history] == sorted(step.best_total for step in history)
    assert history[-1].n_evaluated == result.n_evaluated
    assert result.elapsed_s > result.certificate_s > 0.0


def test_runners_up_are_worse_and_differ_from_each_other():
    result = quick_search()
    totals = [c.entropy.total for c in (result.best, *result.runners_up)]
    assert len(totals) == 6
    assert all(better - worse > 1e-3 for better, worse in pairwise(totals))


def test_the_caller_may_own_the_loop():
    space, budget = spaces.get("tiny"), Budget(max_flops=10_000_000_000)
    tables = Tables.build(
        space, Pricing.by_roofline(NANO, WorkPoint(context_len=256)), EntropyConfig()
    )
    evolution = Evolution(space, QUICK)
    with pytest.raises(SpecError, match="ask"):
        evolution.step()
    while not evolution.done:
        genomes = evolution.ask()
        evolution.tell(genomes, score(genomes, tables, budget))
        survivors = evolution.survivors
        assert len(np.unique(survivors.scores.key)) == len(survivors.rows.genomes)
        assert len(survivors.rows.genomes) <= QUICK.population
    whole = quick_search(budget=budget)
    assert evolution.step().best_total == pytest.approx(whole.best.entropy.total)


def test_the_last_generation_is_cut_to_the_number_of_candidates():
    config = SearchConfig(candidates=1000, population=300)
    assert quick_search(config=config).n_evaluated == 1000


def test_an_infeasible_candidate_ranks_by_its_excess():
    tables = Tables.build(
        SMALL, Pricing.by_roofline(NANO, WorkPoint(context_len=64)), EntropyConfig()
    )
    genomes = everything(SMALL)[::37]
    order = best_first(scores := score(genomes, tables, Budget(max_params=60_000)))
    excess = scores.excess[order]
    assert excess[0] == 0.0
    assert excess[-1] > 0.0
    assert (np.diff(excess) >= 0.0).all()


def test_an_impossible_budget_names_the_closest_candidate_and_what_it_misses():
    with pytest.raises(BudgetError) as caught:
        quick_search(budget=Budget(max_params=100_000, max_flops=1_000_000))
    error = caught.value
    assert error.exit_code == 6
    assert error.closest.architecture == spaces.get("tiny").decode(spaces.get("tiny").smallest())
    assert [v.quantity for v in error.violations] == ["parameters", "prefill FLOPs"]
    assert "d64 h2 ff64 x1" in error.message
    assert "times the limit of 100,000" in error.message


def test_an_impossible_budget_ends_before_the_search_begins():
    steps = []
    with pytest.raises(BudgetError):
        quick_search(budget=Budget(max_memory_bytes=1), on_progress=steps.append)
    assert steps == []


def test_a_budget_that_only_deep_and_narrow_networks_keep_is_refused():
    narrow = SMALL.replace(name="narrow", n_blocks=4, d_models=(16, 32, 64))
    budget = Budget(max_flops=300_000_000)  # the smallest takes 281 M; gamma 4/16 is over 1/16
    with pytest.raises(BudgetError, match="depth-to-width ratio") as caught:
        quick_search(space=narrow, budget=budget)
    assert caught.value.violations[0].limit == 1 / 16


@pytest.mark.parametrize(
    ("budget", "reason"),
    [(Budget(), "no limit"), (Budget(max_params=10**9), "a limit on parameters only")],
)
def test_a_budget_that_leaves_the_depth_free_is_refused(budget, reason):
    with pytest.raises(BudgetError, match=reason) as caught:
        quick_search(budget=budget)
    assert "--max-flops" in caught.value.hint
    assert "stored once" in caught.value.note


def test_a_latency_limit_needs_a_target_whose_bandwidth_is_known():
    with pytest.raises(SpecError, match="latency per token cannot be predicted"):
        quick_search(budget=Budget(max_latency_ms=1.0), target=targets.get("host"))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"population": 1}, "population"), ({"candidates": 10, "population": 20}, "cannot fill")],
)
def test_a_search_that_cannot_be_run_is_refused(fields, reason):
    with pytest.raises(SpecError, match=reason):
        SearchConfig(**fields)


def test_a_result_survives_its_file_and_serves_as_an_architecture(tmp_path):
    path = str(tmp_path / "arch.json")
    result = quick_search()
    result.save(path)
    assert SearchResult.load(path) == result.without_run()
    assert read_architecture(path) == result.best.architecture


@pytest.mark.parametrize(
    ("edit", "error", "field"),
    [
        (lambda d: d.update(schema="merino-edge.search/3"), SchemaVersionError, "schema"),
        (lambda d: d.pop("architecture"), FormatError, "architecture"),
        (lambda d: d["best"]["cost"].pop("n_params"), FormatError, "best.cost.n_params"),
        (lambda d: d["budget"].update(max_flops=-1), FormatError, "max_flops"),
        (lambda d: d["config"].update(colour=1), FormatError, "config.colour"),
    ],
)
def test_a_damaged_result_is_refused_with_the_field(tmp_path, edit, error, field):
    document = quick_search().to_document()
    edit(document)
    path = tmp_path / "arch.json"
    path.write_text(json.dumps(document))
    with pytest.raises(error, match=field):
        SearchResult.load(str(path))
