"""Several evolutions of one problem: seeds and vocabularies, in one process or in several.

The one idea: an evolution is a function of its job (question, vocabulary, seed), so it does not
matter where it runs, and the outcomes are put together in the order of the jobs. A job that is
interrupted leaves its state behind and takes it up again.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from typing import NamedTuple

from merino_edge.core.budget import Budget
from merino_edge.core.latency import LatencyModel
from merino_edge.core.signals import stop_wish
from merino_edge.core.space import SearchSpace
from merino_edge.core.targets import Target
from merino_edge.errors import StoppedError
from merino_edge.search.config import SearchConfig
from merino_edge.search.evolution import Evolution, Survivors
from merino_edge.search.lineage import Lineage
from merino_edge.search.problem import Problem, pose
from merino_edge.search.result import Step
from merino_edge.search.saved import question_digest, restore_evolution, save_evolution

_SAVE_EVERY_S = 5.0

OnStep = Callable[[int, Step], None]  # new candidates, and where their seed stands


class Question(NamedTuple):
    """What is searched: all that decides the result."""

    space: SearchSpace
    budget: Budget
    config: SearchConfig
    target: Target
    latency: LatencyModel | None = None


class Job(NamedTuple):
    """One evolution.

    Attributes:
        question: What is searched.
        vocabulary: Which of the space's alternatives.
        seed: Of its chances.
        state_path: Where its state is kept while it runs; None to keep none.
    """

    question: Question
    vocabulary: int
    seed: int
    state_path: str | None


class Outcome(NamedTuple):
    """How a job ended."""

    job: Job
    survivors: Survivors
    lineage: Lineage
    history: tuple[Step, ...]


def make_jobs(question: Question, n_vocabularies: int, state_folder: str | None) -> list[Job]:
    """A job for each vocabulary and seed."""
    jobs = []
    for vocabulary in range(n_vocabularies):
        for seed in question.config.seeds:
            name = f"vocabulary-{vocabulary}-seed-{seed}.npz"
            path = os.path.join(state_folder, name) if state_folder else None
            jobs.append(Job(question, vocabulary, seed, path))
    return jobs


def run_jobs(
    jobs: Sequence[Job], problems: Sequence[Problem], workers: int, on_step: OnStep
) -> list[Outcome]:
    """All outcomes, in the order of the jobs.

    Args:
        jobs: What to run.
        problems: One for each vocabulary.
        workers: Processes; 1 for this one.
        on_step: Told after each generation, or with several workers after each job.

    Raises:
        StoppedError: Interrupted; what was done is saved if there is a place for it.
        FormatError: A saved state is damaged or of another question.
    """
    if workers == 1 or len(jobs) == 1:
        return [_evolve(job, problems[job.vocabulary], on_step) for job in jobs]
    outcomes = []
    # The first signal is a wish here too: the workers, who get it as well, save and say so.
    with stop_wish(), ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn")) as pool:
        for outcome in pool.map(_evolve_alone, jobs):
            outcomes.append(outcome)
            on_step(outcome.history[-1].n_evaluated, outcome.history[-1])
    return outcomes


def _evolve_alone(job: Job) -> Outcome:
    """In a process of its own, which has to pose the question again."""
    return _evolve(job, _posed(job.question)[job.vocabulary], lambda n_new, step: None)


@lru_cache(maxsize=1)  # once in each process, however many jobs it takes
def _posed(question: Question) -> tuple[Problem, ...]:
    return pose(*question)


def _evolve(job: Job, problem: Problem, on_step: OnStep) -> Outcome:
    """Run one job to its end, from its saved state if there is one."""
    evolution = Evolution(problem.space, job.question.config, job.seed)
    question = question_digest(job.question, job.vocabulary, job.seed)
    if job.state_path:
        restore_evolution(job.state_path, evolution, question)
    saved_at, was_saved = time.monotonic(), False
    with stop_wish() as wish:
        while not evolution.done:
            genomes = evolution.ask()
            evolution.tell(genomes, problem.score(genomes))
            on_step(len(genomes), evolution.step())
            # The last state too, if it took long: another seed may yet be interrupted.
            is_due = time.monotonic() - saved_at > _SAVE_EVERY_S or (was_saved and evolution.done)
            if job.state_path and (wish or is_due):
                save_evolution(job.state_path, evolution, question)
                saved_at, was_saved = time.monotonic(), True
            if wish and not evolution.done:
                _stop(evolution, job)
    assert evolution.survivors is not None
    last = evolution.step()
    changes = evolution.history
    history = changes if changes[-1] == last else [*changes, last]
    return Outcome(job, evolution.survivors, evolution.lineage, tuple(history))


def _stop(evolution: Evolution, job: Job) -> None:
    raise StoppedError(
        f"stopped after {evolution.n_evaluated:,} candidates of seed {job.seed}.",
        hint="the same command continues." if job.state_path else None,
    )
