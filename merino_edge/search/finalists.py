"""The survivors of all seeds of one problem, and what is told about them.

The one idea: seeds are put together as generations are: best first, each genome once. What then
differs in the objective is shown, each on the point of its plateau that the tie-breaks prefer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from merino_edge.search.candidate import Candidate
from merino_edge.search.evolution import Survivors
from merino_edge.search.exact import RESOLUTION_NATS
from merino_edge.search.objectives import entropy
from merino_edge.search.problem import Problem
from merino_edge.search.result import Ancestor, SeedRun, Trial
from merino_edge.search.seeds import Outcome
from merino_edge.search.splits import best_split


@dataclass(frozen=True)
class Finalists:
    """Survivors of one problem.

    Attributes:
        problem: What they solve.
        outcomes: Of its seeds.
        survivors: All, best first, each genome once.
        origin: (n,), which of the outcomes each comes from.
    """

    problem: Problem
    outcomes: tuple[Outcome, ...]
    survivors: Survivors
    origin: np.ndarray

    @classmethod
    def of(cls, problem: Problem, outcomes: Sequence[Outcome]) -> "Finalists":
        """Put the seeds of a problem together."""
        everyone = reduce(Survivors.followed_by, [outcome.survivors for outcome in outcomes])
        sizes = [len(outcome.survivors.rows.number) for outcome in outcomes]
        origin = np.repeat(np.arange(len(sizes)), sizes)
        survivors, order = everyone.ranked()
        return cls(problem, tuple(outcomes), survivors, origin[order])

    @property
    def total(self) -> float:
        """The best objective that keeps the budget; -inf where none does."""
        scores = self.survivors.scores
        return float(scores.total[0]) if scores.excess[0] == 0.0 else -np.inf

    def different(self, n: int) -> list[Candidate]:
        """The first n that keep the budget and differ in the objective, best first."""
        scores = self.survivors.scores
        n_fitting = int((scores.excess == 0.0).sum())
        falls = np.diff(scores.total[:n_fitting], prepend=np.inf) < -RESOLUTION_NATS
        return [self._candidate(int(row)) for row in np.flatnonzero(falls)[:n]]

    def genome(self) -> np.ndarray:
        """The best, shape (n_blocks, 3)."""
        return self.settled(self.survivors.rows.genomes[0])

    def settled(self, genome: np.ndarray) -> np.ndarray:
        """The genome of equal entropy that the tie-breaks prefer; other objectives have no ties."""
        if self.problem.objective is not entropy:
            return genome
        return best_split(genome, self.problem.tables, self.problem.budget)

    def _candidate(self, row: int) -> Candidate:
        genome = self.settled(self.survivors.rows.genomes[row])
        return self.problem.candidate(genome, int(self.survivors.rows.born[row]))

    def lineage(self) -> tuple[Ancestor, ...]:
        """The forefathers of the best, oldest first, and itself as it was found."""
        outcome = self.outcomes[self.origin[0]]
        rows = outcome.lineage.ancestors(int(self.survivors.rows.number[0]))
        scores = self.problem.score(rows.genomes)
        return tuple(
            Ancestor(born, self.problem.space.decode(genome), total, excess)
            for born, genome, total, excess in zip(
                rows.born.tolist(),
                rows.genomes,
                scores.total.tolist(),
                scores.excess.tolist(),
                strict=True,
            )
        )

    def trials(self) -> tuple[Trial, ...]:
        """Every survivor in full."""
        rows, seeds = self.survivors.rows, [outcome.job.seed for outcome in self.outcomes]
        return tuple(
            Trial(
                seed=seeds[self.origin[index]],
                number=int(rows.number[index]),
                parent=int(rows.parent[index]),
                generation=int(rows.born[index]),
                candidate=self.problem.candidate(rows.genomes[index], int(rows.born[index])),
            )
            for index in range(len(rows.number))
        )

    def seed_runs(self) -> list[SeedRun]:
        """How each seed went."""
        runs = []
        for outcome in self.outcomes:
            alone = Finalists.of(self.problem, [outcome])
            architecture = self.problem.space.decode(alone.genome())
            runs.append(
                SeedRun(
                    seed=outcome.job.seed,
                    vocab_size=self.problem.space.vocab_size,
                    arch_id=architecture.arch_id,
                    best_total=outcome.history[-1].best_total,
                    history=outcome.history,
                )
            )
        return runs
