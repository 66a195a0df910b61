"""The whole search: from a space and a budget to a result that tells the truth.

The one idea: whether a budget can be kept is known before the search starts. No member is cheaper
than the smallest, whatever is counted, so that one is the closest candidate to any budget, and it
decides. What remains is to run the ask/tell loop and to price the winner again, exactly.
"""

import time
from collections.abc import Callable

import numpy as np

from merino_edge.core.budget import Budget, Violation
from merino_edge.core.cost import Pricing, WorkPoint
from merino_edge.core.space import SearchSpace
from merino_edge.core.targets import Target
from merino_edge.errors import BudgetError, SpecError
from merino_edge.formats.architecture import describe
from merino_edge.search.candidate import Candidate, make_candidate, score
from merino_edge.search.config import SearchConfig
from merino_edge.search.evolution import Evolution
from merino_edge.search.result import SearchResult, Step
from merino_edge.search.splits import best_split
from merino_edge.search.tables import Tables

N_RUNNERS_UP = 5
DIFFERENCE_NATS = 1e-3  # below this, two totals are the same sum in another order


def run_search(
    space: SearchSpace,
    budget: Budget,
    config: SearchConfig,
    target: Target,
    on_progress: Callable[[Step], None] | None = None,
) -> SearchResult:
    """Find the member of a space with the most effective entropy under a budget.

    Costs are quoted at the space's longest sequence.

    Args:
        space: What may be chosen.
        budget: Limits; at least one.
        config: How long to search, the seed and the objective.
        target: Where the decoder will run.
        on_progress: Called after each generation.

    Raises:
        BudgetError: Nothing in the space keeps the budget; holds the closest candidate.
        SpecError: The budget limits nothing, or something that cannot be predicted.
    """
    if budget.is_unlimited:
        raise SpecError(
            "the budget has no limit, so the answer would be the largest member of the space.",
            note="parameters alone do not bound depth: a shared block is stored once.",
            hint="limit FLOPs or latency too: --max-params 64M --max-flops 160G",
        )
    start = time.perf_counter()
    pricing = Pricing.by_roofline(target, WorkPoint(context_len=space.max_seq_len))
    tables = Tables.build(space, pricing, config.entropy)
    _refuse_the_impossible(tables, budget)
    evolution = Evolution(space, config)
    history = _evolve(evolution, tables, budget, on_progress)
    best, *runners_up = _different_best(evolution, tables, budget)
    _refuse_the_ineffective(best, config)
    return SearchResult(
        best=best,
        runners_up=tuple(runners_up),
        history=history,
        config=config,
        budget=budget,
        at=pricing.at,
        space=space.name,
        target=target.name,
        n_evaluated=evolution.n_evaluated,
        elapsed_s=time.perf_counter() - start,
    )


def _evolve(
    evolution: Evolution,
    tables: Tables,
    budget: Budget,
    on_progress: Callable[[Step], None] | None,
) -> tuple[Step, ...]:
    """Run the loop; returns the steps that changed the best, and the last."""
    history: list[Step] = []
    while not evolution.done:
        genomes = evolution.ask()
        evolution.tell(genomes, score(genomes, tables, budget))
        step = evolution.step()
        if not history or step.best_total != history[-1].best_total:
            history.append(step)
        if on_progress:
            on_progress(step)
    return tuple(history if history[-1] == step else [*history, step])


def _different_best(evolution: Evolution, tables: Tables, budget: Budget) -> list[Candidate]:
    """The survivors that fit, best first, one for each value of the objective, evenly split."""
    scores = evolution.scores
    assert scores is not None  # the loop has told at least once
    n_fitting = int((scores.excess == 0.0).sum())
    falls = np.diff(scores.total[:n_fitting], prepend=np.inf) < -DIFFERENCE_NATS
    rows = np.flatnonzero(falls)[: N_RUNNERS_UP + 1]
    genomes = [best_split(evolution.genomes[row], tables, budget) for row in rows]
    return [
        make_candidate(genome, int(evolution.born[row]), tables, budget)
        for genome, row in zip(genomes, rows, strict=True)
    ]


def _refuse_the_impossible(tables: Tables, budget: Budget) -> None:
    smallest = make_candidate(tables.space.smallest(), 0, tables, budget)
    if smallest.violations:
        raise BudgetError(
            f"nothing in the space '{tables.space.name}' keeps this budget. The closest is its "
            f"smallest member, {describe(smallest.architecture)}: "
            f"{'; '.join(violation.sentence for violation in smallest.violations)}.",
            closest=smallest,
            violations=smallest.violations,
            note="the smallest member has the least of every cost, so no other comes closer.",
            hint="raise the limit, shrink the vocabulary (--vocab-size) or take a smaller --space.",
        )


def _refuse_the_ineffective(best: Candidate, config: SearchConfig) -> None:
    if best.entropy.total > 0.0:
        return
    limit = config.entropy.gamma0
    violation = Violation("depth-to-width ratio", best.entropy.gamma, limit, "")
    raise BudgetError(
        f"what keeps this budget is too narrow for its depth to be trained. The best found is "
        f"{describe(best.architecture)}: {violation.sentence}.",
        closest=best,
        violations=(violation,),
        note="all candidates that fit have an effectiveness of zero.",
        hint="raise the limits, or take a --space with fewer blocks or a smaller vocabulary.",
    )
