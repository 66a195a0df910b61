"""The front: the most entropy that each amount of one cost can buy.

The one idea: a front is a series of searches, each with a tighter limit on the axis (the epsilon
constraint of multi-objective optimisation), so a point means just what a search result means. A
point that costs more and gives no more is left out.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

import numpy as np

from merino_edge.core.budget import LIMITS
from merino_edge.search.candidate import Candidate
from merino_edge.search.config import SearchConfig
from merino_edge.search.evolution import Evolution
from merino_edge.search.exact import RESOLUTION_NATS, certify
from merino_edge.search.problem import Problem
from merino_edge.search.result import Front, FrontPoint
from merino_edge.search.splits import best_split


def trace_front(
    best: Candidate, problem: Problem, config: SearchConfig, on_point: Callable[[int, float], None]
) -> Front:
    """Entropy against one cost, from the smallest member's to that of ``best``.

    Args:
        best: What the search found: the last point.
        problem: The question.
        config: Its ``front`` names the axis; the points share its candidates, but each has enough
            for twenty generations. With the method "exact" each point is proven.
        on_point: Told how many points are done, and the last one's objective.
    """
    assert config.front is not None
    axis, highest = config.front, getattr(best.cost, config.front)
    limited = next(limit for limit in LIMITS if limit.shown == axis)
    upper_end = getattr(best.cost, limited.cost) / highest  # of an interval, over its middle
    lowest = getattr(problem.candidate(problem.space.smallest()).cost, axis)
    points = []
    for limit in np.geomspace(lowest, highest, config.front_points)[:-1].tolist():
        budget = replace(problem.budget, **{limited.field: limit * upper_end})
        points.append(_point(limit, replace(problem, budget=budget), config))
        on_point(len(points), points[-1].candidate.entropy.total)
    points.append(FrontPoint(float(highest), best, None))
    return Front(axis, _not_beaten(points, axis))


def _point(limit: float, problem: Problem, config: SearchConfig) -> FrontPoint:
    """The best under one limit on the axis, which the problem's budget has already."""
    budget = problem.budget
    candidates = max(config.candidates // config.front_points, 20 * config.population)
    evolution = Evolution(problem.space, replace(config, candidates=candidates))
    while not evolution.done:
        genomes = evolution.ask()
        evolution.tell(genomes, problem.score(genomes))
    assert evolution.survivors is not None
    genome, total = evolution.survivors.rows.genomes[0], float(evolution.survivors.scores.total[0])
    gap = None
    if config.method == "exact" and total > 0.0:
        better, certificate = certify(genome, total, problem.tables, budget)
        genome, gap = genome if better is None else better, certificate.gap
    return FrontPoint(limit, problem.candidate(best_split(genome, problem.tables, budget)), gap)


def _not_beaten(points: list[FrontPoint], axis: str) -> tuple[FrontPoint, ...]:
    """Those that give more than all that cost less, and something at all."""
    points = sorted(points, key=lambda p: (getattr(p.candidate.cost, axis), p.limit))
    totals = [point.candidate.entropy.total for point in points]
    before = [0.0, *accumulate(totals, max)]
    pairs = zip(points, totals, before, strict=False)
    return tuple(point for point, total, most in pairs if total > most + RESOLUTION_NATS)
