"""Evolution: a population that keeps its best, and children that differ a little.

The one idea: ``ask()`` gives genomes, ``tell()`` takes their scores, and whoever calls them owns
the loop. After TinyNAS: parents are drawn uniformly, children are mutants (no crossover), and of
parents and children together the best survive, each genome once. The population moves as arrays,
a generation at a time, which is what makes half a million candidates a matter of seconds.

What does not fit has a size and stays in the race until something fits. This module knows neither
costs nor entropy: it sees scores.
"""

import json
from typing import NamedTuple

import numpy as np

from merino_edge.core.space import SearchSpace
from merino_edge.errors import SpecError
from merino_edge.search.candidate import Scores, best_first
from merino_edge.search.config import SearchConfig
from merino_edge.search.lineage import Lineage, Rows
from merino_edge.search.operators import first_generation, mutate
from merino_edge.search.result import Step


class Survivors(NamedTuple):
    """Members with their scores, best first."""

    rows: Rows
    scores: Scores

    def take(self, rows: np.ndarray) -> "Survivors":
        """Some of them, in the order of ``rows``."""
        return Survivors(self.rows.take(rows), self.scores.take(rows))

    def followed_by(self, other: "Survivors") -> "Survivors":
        """These, then the others."""
        rows, scores = self.rows.followed_by(other.rows), self.scores.followed_by(other.scores)
        return Survivors(rows, scores)

    def ranked(self) -> "tuple[Survivors, np.ndarray]":
        """Best first, each genome once, the oldest of equals; and where each came from."""
        order = best_first(self.scores)
        # Equal genomes have equal scores and keys, so in this order they are neighbours, and the
        # sort is stable.
        keys = self.scores.key[order]
        order = order[np.diff(keys, prepend=~keys[:1]) != 0]
        return self.take(order), order


class Evolution:
    """The ask/tell loop of one seed.

    Attributes:
        survivors: None before the first ``tell``.
        lineage: Where they came from.
        history: Steps in which the best changed.
        generation: Generations told so far.
        n_evaluated: Genomes told so far.
    """

    def __init__(self, space: SearchSpace, config: SearchConfig, seed: int | None = None):
        self._space = space
        self._config = config
        self._rng = np.random.default_rng(config.seed if seed is None else seed)
        self._parents = np.empty(0, dtype=np.int64)
        self.survivors: Survivors | None = None
        self.lineage = Lineage.empty(space.n_blocks)
        self.history: list[Step] = []
        self.generation = 0
        self.n_evaluated = 0

    @property
    def done(self) -> bool:
        """All candidates of the configuration have been scored."""
        return self.n_evaluated >= self._config.candidates

    def ask(self) -> np.ndarray:
        """The next genomes to score, shape (n, n_blocks, 3)."""
        n = min(self._config.population, self._config.candidates - self.n_evaluated)
        if self.survivors is None:
            self._parents = np.full(n, -1)
            return first_generation(self._space, self._rng, n)
        living = self.survivors.rows
        parents = self._rng.integers(0, len(living.number), n)
        self._parents = living.number[parents]
        return mutate(living.genomes[parents], self._space, self._rng)

    def tell(self, genomes: np.ndarray, scores: Scores) -> None:
        """Take the scores of what ``ask`` gave, and let the best survive."""
        n, first = len(genomes), self.n_evaluated
        number, born = np.arange(first, first + n), np.full(n, self.generation)
        everyone = Survivors(Rows(number, self._parents, born, genomes), scores)
        if self.survivors is not None:
            everyone = self.survivors.followed_by(everyone)
        self.n_evaluated += n
        self.generation += 1
        ranked, _ = everyone.ranked()
        self.survivors = ranked.take(np.arange(min(self._config.population, len(ranked.rows.born))))
        self._remember(self.survivors.rows, first)
        step = self.step()
        if not self.history or step.best_total != self.history[-1].best_total:
            self.history.append(step)

    def _remember(self, living: Rows, first: int) -> None:
        """Enter the survivors of this generation, from number ``first`` on, into the lineage."""
        new = np.flatnonzero(living.number >= first)
        new = new[np.argsort(living.number[new])]
        self.lineage.add(living.take(new), living.number)

    def step(self) -> Step:
        """Where the search stands.

        Raises:
            SpecError: Nothing was told yet.
        """
        if self.survivors is None:
            raise SpecError("the search has no scores yet: ask(), score, tell() first.")
        scores = self.survivors.scores
        return Step(
            generation=self.generation,
            n_evaluated=self.n_evaluated,
            n_fitting=int((scores.excess == 0.0).sum()),
            best_total=float(scores.total[0]),
        )

    def state(self) -> dict[str, np.ndarray]:
        """All that decides how it goes on, as arrays by name; between a ``tell`` and an ``ask``."""
        assert self.survivors is not None, "there is nothing to save before the first tell"
        self.lineage.prune(self.survivors.rows.number)
        rng = json.dumps(self._rng.bit_generator.state).encode("ascii")
        return {
            "counts": np.array([self.generation, self.n_evaluated]),
            "rng": np.frombuffer(rng, dtype=np.uint8),
            "history": np.array(self.history),
            **_named("survivors", self.survivors.rows),
            **_named("scores", self.survivors.scores),
            **_named("lineage", self.lineage.rows),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a ``state()``."""
        self.generation, self.n_evaluated = map(int, state["counts"])
        self._rng.bit_generator.state = json.loads(state["rng"].tobytes())
        self.history = [
            Step(int(generation), int(n_evaluated), int(n_fitting), float(best_total))
            for generation, n_evaluated, n_fitting, best_total in state["history"]
        ]
        scores = Scores(*_columns(state, "scores", Scores._fields))
        self.survivors = Survivors(Rows(*_columns(state, "survivors", Rows._fields)), scores)
        self.lineage = Lineage(Rows(*_columns(state, "lineage", Rows._fields)))


def _named(prefix: str, columns: Rows | Scores) -> dict[str, np.ndarray]:
    return {f"{prefix}.{name}": getattr(columns, name) for name in columns._fields}


def _columns(state: dict[str, np.ndarray], prefix: str, names: tuple[str, ...]) -> list[np.ndarray]:
    return [state[f"{prefix}.{name}"] for name in names]
