"""Evolution: a population that keeps its best, and children that differ a little.

The one idea: ``ask()`` gives genomes, ``tell()`` takes their scores, and whoever calls them owns
the loop. After TinyNAS: parents are drawn uniformly, children are mutants (no crossover), and of
parents and children together the best survive, each genome once. The population moves as arrays,
a generation at a time, which is what makes half a million candidates a matter of seconds.

What does not fit has a size and stays in the race until something fits. This module knows neither
costs nor entropy: it sees scores.
"""

import numpy as np

from merino_edge.core.space import SearchSpace
from merino_edge.errors import SpecError
from merino_edge.search.candidate import Scores, best_first
from merino_edge.search.config import SearchConfig
from merino_edge.search.operators import first_generation, mutate
from merino_edge.search.result import Step


class Evolution:
    """The ask/tell loop.

    Attributes:
        genomes: Survivors, best first, shape (n, n_blocks, 3).
        scores: Theirs; None before the first ``tell``.
        born: (n,), the generation in which each was met.
        generation: Generations told so far.
        n_evaluated: Genomes told so far.
    """

    def __init__(self, space: SearchSpace, config: SearchConfig):
        self._space = space
        self._config = config
        self._rng = np.random.default_rng(config.seed)
        self.genomes = np.empty((0, space.n_blocks, 3), dtype=np.int64)
        self.scores: Scores | None = None
        self.born = np.empty(0, dtype=np.int64)
        self.generation = 0
        self.n_evaluated = 0

    @property
    def done(self) -> bool:
        """All candidates of the configuration have been scored."""
        return self.n_evaluated >= self._config.candidates

    def ask(self) -> np.ndarray:
        """The next genomes to score, shape (n, n_blocks, 3)."""
        n = min(self._config.population, self._config.candidates - self.n_evaluated)
        if self.scores is None:
            return first_generation(self._space, self._rng, n)
        parents = self._rng.integers(0, len(self.genomes), n)
        return mutate(self.genomes[parents], self._space, self._rng)

    def tell(self, genomes: np.ndarray, scores: Scores) -> None:
        """Take the scores of what ``ask`` gave, and let the best survive."""
        born = np.full(len(genomes), self.generation)
        if self.scores is not None:
            genomes = np.concatenate([self.genomes, genomes])
            scores = self.scores.followed_by(scores)
            born = np.concatenate([self.born, born])
        self.n_evaluated += len(born) - len(self.born)
        self.generation += 1
        order = best_first(scores)
        # Equal genomes have equal scores and keys, so in this order they are neighbours. The sort
        # is stable: the first of them is the oldest.
        is_new = np.diff(scores.key[order], prepend=~scores.key[order[:1]]) != 0
        survivors = order[is_new][: self._config.population]
        self.genomes, self.scores = genomes[survivors], scores.take(survivors)
        self.born = born[survivors]

    def step(self) -> Step:
        """Where the search stands.

        Raises:
            SpecError: Nothing was told yet.
        """
        if self.scores is None:
            raise SpecError("the search has no scores yet: ask(), score, tell() first.")
        return Step(
            generation=self.generation,
            n_evaluated=self.n_evaluated,
            n_fitting=int((self.scores.excess == 0.0).sum()),
            best_total=float(self.scores.total[0]),
        )
