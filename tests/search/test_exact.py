"""The proof: every bound holds for every member, and what it settles is what exhaustion finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merino_edge.core import space as spaces
from merino_edge.core import targets
from merino_edge.core.budget import Budget
from merino_edge.core.cost import Pricing, WorkPoint
from merino_edge.core.entropy import FORMS, EntropyConfig
from merino_edge.core.space import SearchSpace
from merino_edge.errors import SpecError
from merino_edge.search import exact
from merino_edge.search.candidate import score
from merino_edge.search.exact import certify
from merino_edge.search.relaxation import relax
from merino_edge.search.tables import Tables

NANO = targets.get("nano")
SMALL = SearchSpace("small", 2, (32, 64, 96, 128), (1.0, 1.5, 2.0), (1, 2, 3, 4), 16, 500, 64)
FREE = SMALL.replace(name="free", monotone=False, depths=(1, 3, 6))
BUDGETS = [
    Budget(max_flops=500_000_000),
    Budget(max_params=150_000, max_flops=500_000_000),
    Budget(max_memory_bytes=350_000),
    Budget(max_latency_ms=0.02, max_params=140_000, max_memory_bytes=10**6),
    Budget(150_000, 500_000_000, 10**6, 10**6, 0.02, 0.05, 0.2),
]


def tables_of(space, config=None):
    pricing = Pricing.by_roofline(NANO, WorkPoint(context_len=space.max_seq_len))
    return Tables.build(space, pricing, config or EntropyConfig())


def everything(space):
    """All genomes of a space, as one array."""
    codes = np.indices(space.n_choices * space.n_blocks).reshape(3 * space.n_blocks, -1).T
    genomes = codes.reshape(-1, space.n_blocks, 3)
    is_member = (np.diff(genomes[:, :, 0], axis=1) >= 0).all(axis=1) | (not space.monotone)
    return genomes[is_member]


def best_of_all(space, tables, budget):
    """By looking at every member: (genome, total)."""
    genomes = everything(space)
    scores = score(genomes, tables, budget)
    totals = np.where(scores.excess == 0.0, scores.total, -1.0)
    return genomes[totals.argmax()], float(totals.max())


def member_that_fits(space, tables, budget):
    """Some member with an entropy above zero: what a poor search would give."""
    genomes = everything(space)
    scores = score(genomes, tables, budget)
    row = np.flatnonzero((scores.excess == 0.0) & (scores.total > 0.0))[0]
    return genomes[row], float(scores.total[row])


@pytest.mark.parametrize("space", [SMALL, FREE], ids=lambda space: space.name)
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("form", FORMS)
def test_from_any_start_the_proof_ends_at_the_best_of_all_members(space, budget, form):
    tables = tables_of(
        space, EntropyConfig(form=form, gamma0=20.0 if form == "literal" else 1 / 16)
    )
    _, optimum = best_of_all(space, tables, budget)
    better, certificate = certify(*member_that_fits(space, tables, budget), tables, budget)
    assert certificate.complete
    assert certificate.gap == 0.0
    assert certificate.best_total == pytest.approx(optimum, abs=1e-3)
    if better is not None:
        found = score(better[None], tables, budget)
        assert found.excess[0] == 0.0
        assert found.total[0] == pytest.approx(optimum, abs=1e-3)


@pytest.mark.parametrize("budget", BUDGETS)
def test_no_member_that_fits_is_above_the_bound_of_its_chain(budget):
    tables = tables_of(SMALL)
    genomes = everything(SMALL)
    scores = score(genomes, tables, budget)
    relaxation = relax(*best_of_all(SMALL, tables, budget), tables, budget)
    bound = {tuple(c): b for c, b in zip(relaxation.chains.tolist(), relaxation.bound, strict=True)}
    layers = tables.depth[genomes[:, :, 2]].sum(axis=1)
    fits = scores.excess == 0.0
    assert fits.any()
    for genome, total, n in zip(genomes[fits], scores.total[fits], layers[fits], strict=True):
        assert total <= bound[tuple(genome[:, 0].tolist())][n] + 1e-6  # totals are rounded


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_the_proof_agrees_with_exhaustion_on_random_spaces_and_limits(data):
    space = SMALL.replace(
        d_models=tuple(
            sorted(data.draw(st.sets(st.sampled_from((16, 32, 48, 80, 128)), min_size=1)))
        ),
        ffn_ratios=tuple(sorted(data.draw(st.sets(st.sampled_from((0.5, 1.0, 3.0)), min_size=1)))),
        depths=tuple(sorted(data.draw(st.sets(st.sampled_from((1, 2, 5)), min_size=1)))),
        monotone=data.draw(st.booleans()),
        vocab_size=data.draw(st.sampled_from((10, 3000))),
    )
    config = EntropyConfig(
        alpha2=data.draw(st.sampled_from((0.0, 1.0, 3.0))),
        gamma0=data.draw(st.sampled_from((1 / 16, 1 / 4))),
        most_growth=data.draw(st.sampled_from((None, 1.0, 1.6))),
    )
    tables = tables_of(space, config)
    middle = space.decode(space.sample(np.random.default_rng(data.draw(st.integers(0, 99))), 1)[0])
    cost = tables.pricing.price(middle)
    budget = Budget(
        max_params=data.draw(st.none() | st.just(cost.n_params)),
        max_flops=cost.prefill_flops,
        max_latency_ms=data.draw(st.none() | st.just(cost.latency_ms)),
    )
    _, optimum = best_of_all(space, tables, budget)
    if optimum <= 0.0:
        return
    start, total = member_that_fits(space, tables, budget)
    _, certificate = certify(start, total, tables, budget)
    assert certificate.complete
    assert certificate.best_total == pytest.approx(optimum, abs=1e-3)


def test_a_proof_that_is_cut_short_still_bounds_the_optimum():
    budget = BUDGETS[1]
    tables = tables_of(SMALL)
    _, optimum = best_of_all(SMALL, tables, budget)
    start, total = member_that_fits(SMALL, tables, budget)
    _, certificate = certify(start, total, tables, budget, max_states=0)
    assert not certificate.complete
    assert certificate.best_total <= optimum <= certificate.upper_bound
    assert 0.0 < certificate.gap < 1.0


def test_a_chain_too_large_for_memory_stays_open_and_honest(monkeypatch):
    monkeypatch.setattr(exact, "_MOST_STATES", 3)
    budget, tables = BUDGETS[0], tables_of(SMALL)
    _, optimum = best_of_all(SMALL, tables, budget)
    _, certificate = certify(*member_that_fits(SMALL, tables, budget), tables, budget)
    assert not certificate.complete
    assert optimum <= certificate.upper_bound


def test_progress_comes_with_bounds_that_never_rise():
    seen = []
    budget, tables = BUDGETS[1], tables_of(SMALL)
    certify(*member_that_fits(SMALL, tables, budget), tables, budget, on_progress=seen.append)
    bounds = [certificate.upper_bound for certificate in seen]
    assert np.diff(bounds).max() < 1e-5  # totals are kept to a micronat
    assert [certificate.n_visited for certificate in seen] == list(range(1, len(seen) + 1))


def test_a_space_with_too_many_chains_is_refused():
    space = spaces.get("paper").replace(name="wide", n_blocks=8, monotone=False)
    with pytest.raises(SpecError, match="2,562,890,625 chains"):
        certify(space.smallest(), 1.0, tables_of(space), Budget(max_flops=10**12))


@pytest.mark.parametrize(
    ("max_params", "max_flops", "arch_id"),
    [
        (52_000_000, 60_000_000_000, "339d8bc9acb8"),
        (61_000_000, 110_000_000_000, "ffe0210445cf"),
        (64_000_000, 160_000_000_000, "09a6eec1624b"),
    ],
)
def test_the_architectures_of_the_paper_budgets_are_optima(max_params, max_flops, arch_id):
    from merino_edge.search.config import SearchConfig
    from merino_edge.search.run import run_search

    budget = Budget(max_params=max_params, max_flops=max_flops)
    result = run_search(spaces.get("paper"), budget, SearchConfig(method="exact"), NANO)
    assert result.certificate.complete
    assert result.best.architecture.arch_id == arch_id
