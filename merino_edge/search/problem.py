"""The question, made ready: priced tables, limits and an objective for each vocabulary.

The one idea: what cannot be answered is known before the search starts. No member is cheaper than
the smallest, whatever is counted, so that one is the closest to any budget, and it decides
whether the limits can be kept together. A budget that leaves the depth free has no answer either:
a shared block is stored once however often it is applied, so parameters do not bound it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from merino_edge.core.budget import Budget
from merino_edge.core.cost import Pricing, WorkPoint
from merino_edge.core.latency import LatencyModel, Roofline
from merino_edge.core.space import SearchSpace
from merino_edge.core.targets import Target
from merino_edge.errors import BudgetError, SpecError
from merino_edge.formats.architecture import describe
from merino_edge.search.candidate import Candidate, Scores, make_candidate, score
from merino_edge.search.config import AXES, SearchConfig
from merino_edge.search.objectives import OBJECTIVES, Objective
from merino_edge.search.tables import Tables


@dataclass(frozen=True)
class Problem:
    """A space with one vocabulary, its prices, the limits and the objective."""

    tables: Tables
    budget: Budget
    objective: Objective

    @property
    def space(self) -> SearchSpace:
        """The space, with this problem's vocabulary."""
        return self.tables.space

    def score(self, genomes: np.ndarray) -> Scores:
        """Score a population, shape (n, n_blocks, 3)."""
        return score(genomes, self.tables, self.budget, self.objective)

    def candidate(self, genome: np.ndarray, generation: int = 0) -> Candidate:
        """The full record of one genome, shape (n_blocks, 3)."""
        return make_candidate(genome, generation, self.tables, self.budget)


def pose(
    space: SearchSpace,
    budget: Budget,
    config: SearchConfig,
    target: Target,
    latency: LatencyModel | None = None,
    objective: Objective | None = None,
) -> tuple[Problem, ...]:
    """One problem for each vocabulary of the space.

    Costs are quoted at the space's longest sequence, of the reference vocabulary; one that needs
    more tokens for the same text has a longer context and pays for more of them.

    Raises:
        BudgetError: The budget leaves the depth free, or nothing in the space keeps it.
        SpecError: A limit, or the front, is on something that cannot be predicted for the target.
    """
    _refuse_the_unbounded(budget)
    latency = latency or Roofline(target)
    _refuse_the_unknown(config, target, latency)
    problems = []
    for member, tokens in space.alternatives():
        pricing = Pricing(target, _work_point(space, tokens), latency)
        tables = Tables.build(member, pricing, config.entropy)
        problems.append(Problem(tables, budget, objective or OBJECTIVES[config.objective]))
    _refuse_the_impossible(problems)
    return tuple(problems)


def _work_point(space: SearchSpace, tokens_per_reference: float) -> WorkPoint:
    reference = WorkPoint(context_len=space.max_seq_len)
    return WorkPoint(
        prompt_len=round(reference.prompt_len * tokens_per_reference),
        context_len=round(reference.context_len * tokens_per_reference),
        tokens_per_reference=tokens_per_reference,
    )


def _refuse_the_unbounded(budget: Budget) -> None:
    if budget.bounds_depth:
        return
    limits = "no limit" if budget.is_unlimited else "a limit on parameters only"
    raise BudgetError(
        f"the budget has {limits}, and that leaves the depth free.",
        note="a shared block is stored once however often it is applied: without a limit on FLOPs, "
        "memory, latency or energy the time of a token has no bound but the space's own.",
        hint="limit something that grows with depth too: --max-params 64M --max-flops 160G",
    )


def _refuse_the_unknown(config: SearchConfig, target: Target, latency: LatencyModel) -> None:
    known = Pricing(target, WorkPoint(), latency).rates()
    if config.front is not None and config.front not in known:
        raise SpecError(
            f"front is {config.front!r}, which cannot be predicted for '{target.name}'.",
            hint=f"take one of {', '.join(a for a in AXES if a in known)}, or another --target.",
        )


def _refuse_the_impossible(problems: Sequence[Problem]) -> None:
    smallest = [problem.candidate(problem.space.smallest()) for problem in problems]
    if not all(candidate.violations for candidate in smallest):
        return
    closest = min(smallest, key=lambda c: sum(v.excess for v in c.violations))
    raise BudgetError(
        f"nothing in the space '{problems[0].space.name}' keeps this budget. The closest is its "
        f"smallest member, {describe(closest.architecture)}: "
        f"{'; '.join(violation.sentence for violation in closest.violations)}.",
        closest=closest,
        violations=closest.violations,
        note="the smallest member has the least of every cost, so no other comes closer.",
        hint="raise the limit, shrink the vocabulary (--vocab-size) or take a smaller --space.",
    )
