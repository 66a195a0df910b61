"""A candidate, alone and in numbers.

The one idea: while the search runs, candidates are columns of arrays (``Scores``), and their
order is one rule: what fits first, then less excess, then more entropy, then the tie-breaks. Only
the few that are shown to a person become a ``Candidate``, priced again by the slow exact road.

Ties are the rule, not the exception: with shared weights it does not matter for the entropy how
the layers of equal width are split among blocks. Even depths win, then more stored parameters.
"""

from typing import NamedTuple

import numpy as np

from merino_edge.core.budget import Budget, Violation
from merino_edge.core.cost import CostReport
from merino_edge.core.entropy import EntropyScore, network_entropy
from merino_edge.core.space import DEPTH
from merino_edge.formats.architecture import Architecture
from merino_edge.search.objectives import Objective, entropy
from merino_edge.search.operators import genome_keys
from merino_edge.search.tables import Tables

# Sums over the same blocks in another order differ in the last bits; a micronat is far below any
# real difference and far above those.
_TIE_DECIMALS = 6


class Candidate(NamedTuple):
    """One architecture with everything that is said about it.

    Attributes:
        architecture: The decoder.
        entropy: Its score.
        cost: Its costs on the target.
        violations: The limits that it misses; empty for what fits.
        generation: When the search met it; 0 for the first, random one.
    """

    architecture: Architecture
    entropy: EntropyScore
    cost: CostReport
    violations: tuple[Violation, ...]
    generation: int


class Scores(NamedTuple):
    """What decides the order of n genomes; arrays of shape (n,).

    Attributes:
        excess: Sum of the relative excesses over the limits; 0 for what fits.
        total: The objective, as a rule the entropy times the effectiveness, to a micronat.
        unevenness: Standard deviation of the blocks' depths.
        n_params: Stored parameters.
        key: A number for each genome, equal for equal genomes.
    """

    excess: np.ndarray
    total: np.ndarray
    unevenness: np.ndarray
    n_params: np.ndarray
    key: np.ndarray

    def take(self, rows: np.ndarray) -> "Scores":
        """Some of them, in the order of ``rows``."""
        return Scores(*(column[rows] for column in self))

    def followed_by(self, other: "Scores") -> "Scores":
        """These, then the others."""
        return Scores(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


def score(
    genomes: np.ndarray, tables: Tables, budget: Budget, objective: Objective = entropy
) -> Scores:
    """Score a population, shape (n, n_blocks, 3)."""
    costs = tables.costs(genomes)
    return Scores(
        excess=budget.total_excess(costs),
        total=np.round(objective(genomes, tables), _TIE_DECIMALS),
        unevenness=np.round(tables.depth[genomes[:, :, DEPTH]].std(axis=1), _TIE_DECIMALS),
        n_params=costs.n_params,
        key=genome_keys(genomes, tables.space),
    )


def best_first(scores: Scores) -> np.ndarray:
    """Rows in order of merit; the key comes last, so that the order never depends on chance."""
    return np.lexsort(
        (scores.key, -scores.n_params, scores.unevenness, -scores.total, scores.excess)
    )


def make_candidate(
    genome: np.ndarray, generation: int, tables: Tables, budget: Budget
) -> Candidate:
    """The full record of one genome, shape (n_blocks, 3)."""
    architecture = tables.space.decode(genome)
    cost = tables.pricing.price(architecture)
    entropy = network_entropy(architecture, tables.entropy_config)
    return Candidate(architecture, entropy, cost, budget.violations(cost), generation)
