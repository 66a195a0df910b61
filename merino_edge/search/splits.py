"""The many ways to share out the same layers among blocks, and the best of them.

The one idea: with shared weights the objective sees only how many layers of each width and ratio
there are. Three layers of width 640 score the same as one block of depth 3 or as a block of depth
2 and one of depth 1. So the optimum is a plateau; evolution finds some point of it, and this
module finds the point that the tie-breaks prefer, whatever the seed.
"""

from collections import Counter
from itertools import combinations

import numpy as np

from merino_edge.core.budget import Budget
from merino_edge.core.space import SearchSpace
from merino_edge.search.candidate import best_first, score
from merino_edge.search.operators import canonical
from merino_edge.search.tables import Tables


def best_split(genome: np.ndarray, tables: Tables, budget: Budget) -> np.ndarray:
    """The genome (n_blocks, 3) with the same layers that ranks first."""
    genomes = even_splits(genome, tables.space)
    # Their entropies are equal, but for the last bits of sums in another order.
    scores = score(genomes, tables, budget)._replace(total=np.zeros(len(genomes)))
    first: np.ndarray = genomes[best_first(scores)[0]]
    return first


def even_splits(genome: np.ndarray, space: SearchSpace) -> np.ndarray:
    """A genome, and every division of its layers that is even within each kind of layer.

    Args:
        genome: Shape (n_blocks, 3).
        space: Where the results lie. Where widths may shrink, joints depend on the order of
            blocks, and only the genome itself is returned.

    Returns:
        Genomes, shape (n, n_blocks, 3), the given one first.
    """
    found = [genome]
    if space.monotone:
        layers: Counter[tuple[int, int]] = Counter()
        for width, ratio, depth in genome.tolist():
            layers[width, ratio] += space.depths[depth]
        splits = (_split(layers, counts, space) for counts in _shares(space.n_blocks, len(layers)))
        found += [split for split in splits if split is not None]
    return canonical(np.stack(found), space)


def _shares(n_blocks: int, n_kinds: int) -> list[tuple[int, ...]]:
    """All ways to give each kind of layer at least one of the blocks."""
    cuts = combinations(range(1, n_blocks), n_kinds - 1)
    return [tuple(np.diff([0, *cut, n_blocks]).tolist()) for cut in cuts]


def _split(
    layers: Counter[tuple[int, int]], counts: tuple[int, ...], space: SearchSpace
) -> np.ndarray | None:
    """The genome with ``counts`` blocks per kind, or None where the space lacks such a depth."""
    genome = []
    for ((width, ratio), n_layers), n_blocks in zip(sorted(layers.items()), counts, strict=True):
        for block in range(n_blocks):
            depth = n_layers // n_blocks + (block < n_layers % n_blocks)
            if depth not in space.depths:
                return None
            genome.append((width, ratio, space.depths.index(depth)))
    return np.array(genome)
