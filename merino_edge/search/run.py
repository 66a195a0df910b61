"""The whole search: from a space and a budget to a result that tells the truth.

The one idea: evolution finds, the proof judges. Evolution runs for each vocabulary and seed; the
best of all is priced again by the slow exact road, its neighbours are looked at, and an upper
bound on the whole space says how far it can be from the best there is. The exact method goes on
from there until nothing better is left.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from merino_edge.core.budget import Budget, Violation
from merino_edge.core.latency import LatencyModel
from merino_edge.core.space import SearchSpace
from merino_edge.core.targets import Target
from merino_edge.errors import BudgetError
from merino_edge.formats.architecture import describe
from merino_edge.search.candidate import Candidate
from merino_edge.search.config import SearchConfig
from merino_edge.search.exact import Certificate, certify
from merino_edge.search.explain import neighbours, part_shares
from merino_edge.search.finalists import Finalists
from merino_edge.search.front import trace_front
from merino_edge.search.objectives import Objective, entropy
from merino_edge.search.problem import Problem, pose
from merino_edge.search.relaxation import n_operations
from merino_edge.search.result import Front, SearchResult, Step
from merino_edge.search.seeds import Question, make_jobs, run_jobs

N_RUNNERS_UP = 5
_CANDIDATES_BEFORE_PROOF = 50_000  # of the exact method: a good start prunes better
_MOST_STATES_BY_THE_WAY = 5_000_000  # that evolution's certificate looks at; likewise
_MOST_OPERATIONS_BY_THE_WAY = 5_000_000_000  # some five seconds


class Progress(NamedTuple):
    """Where a search stands.

    Attributes:
        stage: "evolution", "proof" or "front".
        done: Candidates, chains or points so far.
        of: How many there are in all; for a proof, at most.
        best_total: The objective of the best so far.
    """

    stage: str
    done: int
    of: int
    best_total: float

    def __str__(self) -> str:
        unit = {"evolution": "candidates", "proof": "chains of widths", "front": "points"}
        return f"{self.done:,} of {self.of:,} {unit[self.stage]}, best {self.best_total:,.0f}"


OnProgress = Callable[[Progress], None]


def run_search(
    space: SearchSpace,
    budget: Budget,
    config: SearchConfig,
    target: Target,
    on_progress: OnProgress = lambda progress: None,
    workers: int = 1,
    state_folder: str | None = None,
    keep_trials: bool = False,
    objective: Objective | None = None,
    latency: LatencyModel | None = None,
) -> SearchResult:
    """Find the member of a space with the most effective entropy under a budget.

    Costs are quoted at the space's longest sequence.

    Args:
        space: What may be chosen.
        budget: Limits; one of them must grow with depth.
        config: Method, objective, how long to search, the seeds.
        target: Where the decoder will run.
        on_progress: Told as it goes on.
        workers: Processes for the seeds; the result does not depend on it.
        state_folder: Where an interrupted evolution is kept and taken up again; None for nowhere.
        keep_trials: Hold the survivors in the result too.
        objective: Maximise this instead of the configuration's, in this process, unproven.
        latency: Where milliseconds come from; None for the target's roofline.

    Raises:
        BudgetError: The budget leaves depth free, or nothing in the space keeps it, or only what
            cannot be trained; holds the closest candidate.
        SpecError: The budget limits something that cannot be predicted.
        StoppedError: Interrupted; the same call continues if there is a state folder.
    """
    start = time.perf_counter()
    if config.method == "exact":
        config = replace(config, candidates=min(config.candidates, _CANDIDATES_BEFORE_PROOF))
    problems = pose(space, budget, config, target, latency, objective)
    question = Question(space, budget, config, target, latency)
    everyone = _evolutions(question, problems, on_progress, workers, state_folder)
    verdict = _Verdict(max(everyone, key=lambda finalists: finalists.total), None, None)
    proof_start = time.perf_counter()
    if problems[0].objective is entropy:
        _refuse_the_ineffective(verdict.finalists, config)
        verdict = _judge(verdict.finalists, everyone, config, on_progress)
    end = time.perf_counter()
    result = _account(question, verdict, everyone, on_progress)
    return result._replace(
        elapsed_s=time.perf_counter() - start,
        certificate_s=end - proof_start,
        trials=verdict.finalists.trials() if keep_trials else (),
    )


class _Verdict(NamedTuple):
    """Who wins, what the proof found beyond it (a genome, or None), and what is proven."""

    finalists: Finalists
    better: np.ndarray | None
    certificate: Certificate | None

    @property
    def genome(self) -> np.ndarray:
        """The winner, shape (n_blocks, 3)."""
        found = self.better
        return self.finalists.genome() if found is None else self.finalists.settled(found)

    def candidates(self) -> list[Candidate]:
        """The winner and the runners-up, best first."""
        candidates = self.finalists.different(N_RUNNERS_UP + 1)
        if self.better is None:
            return candidates
        return [self.finalists.problem.candidate(self.genome), *candidates[:N_RUNNERS_UP]]


def _account(
    question: Question,
    verdict: _Verdict,
    everyone: Sequence[Finalists],
    on_progress: OnProgress,
) -> SearchResult:
    """All that the result says, but for times and trials."""
    problem, config = verdict.finalists.problem, question.config
    best, *runners_up = verdict.candidates()
    return SearchResult(
        best=best,
        runners_up=tuple(runners_up),
        certificate=verdict.certificate,
        parts=part_shares(best, problem.tables.pricing),
        neighbours=neighbours(verdict.genome, problem),
        lineage=verdict.finalists.lineage() if verdict.better is None else (),
        seeds=tuple(run for each in everyone for run in each.seed_runs()),
        front=_front(best, problem, config, on_progress),
        config=config,
        budget=question.budget,
        at=problem.tables.pricing.at,
        space=question.space.name,
        target=question.target.name,
        n_evaluated=sum(o.history[-1].n_evaluated for each in everyone for o in each.outcomes),
    )


def _evolutions(
    question: Question,
    problems: Sequence[Problem],
    on_progress: OnProgress,
    workers: int,
    state_folder: str | None,
) -> list[Finalists]:
    """The finalists of each vocabulary."""
    jobs = make_jobs(question, len(problems), state_folder)
    n_all = len(jobs) * question.config.candidates
    n_done, best = 0, -np.inf

    def on_step(n_new: int, step: Step) -> None:
        nonlocal n_done, best
        n_done, best = n_done + n_new, max(best, step.best_total)
        on_progress(Progress("evolution", n_done, n_all, best))

    outcomes = run_jobs(jobs, problems, workers, on_step)
    return [
        Finalists.of(problem, [o for o in outcomes if o.job.vocabulary == index])
        for index, problem in enumerate(problems)
    ]


def _judge(
    winner: Finalists, everyone: Sequence[Finalists], config: SearchConfig, on_progress: OnProgress
) -> _Verdict:
    """Prove how good the winner is; the exact method takes what the proof finds."""
    is_exact = config.method == "exact"
    tables, budget = winner.problem.tables, winner.problem.budget
    by_the_way = n_operations(tables, budget) * len(everyone) <= _MOST_OPERATIONS_BY_THE_WAY
    if not is_exact and not (config.certify and by_the_way):
        return _Verdict(winner, None, None)
    most = None if is_exact else _MOST_STATES_BY_THE_WAY
    total, best, certificates = winner.total, _Verdict(winner, None, None), []
    for finalists in everyone:
        if finalists.total == -np.inf:  # even the smallest member with this vocabulary is too dear
            continue
        genome, certificate = certify(
            finalists.genome(), total, finalists.problem.tables, budget, most, _teller(on_progress)
        )
        if genome is not None:
            total, best = certificate.best_total, _Verdict(finalists, genome, None)
        certificates.append(certificate)
    together = _together(certificates, total)
    if is_exact:
        return best._replace(certificate=together)
    return _Verdict(winner, None, together._replace(best_total=winner.total))


def _teller(on_progress: OnProgress) -> Callable[[Certificate], None]:
    def tell(certificate: Certificate) -> None:
        done, of = certificate.n_visited, certificate.n_chains
        on_progress(Progress("proof", done, of, certificate.best_total))

    return tell


def _together(certificates: Sequence[Certificate], total: float) -> Certificate:
    """What is proven about spaces that differ in the vocabulary."""
    return Certificate(
        best_total=total,
        upper_bound=max(total, *(c.upper_bound for c in certificates)),
        complete=all(certificate.complete for certificate in certificates),
        n_chains=sum(certificate.n_chains for certificate in certificates),
        n_visited=sum(certificate.n_visited for certificate in certificates),
    )


def _front(
    best: Candidate, problem: Problem, config: SearchConfig, on_progress: OnProgress
) -> Front | None:
    if config.front is None:
        return None

    def tell(n_done: int, total: float) -> None:
        on_progress(Progress("front", n_done, config.front_points, total))

    return trace_front(best, problem, config, tell)


def _refuse_the_ineffective(finalists: Finalists, config: SearchConfig) -> None:
    best = finalists.different(1)[0]
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
