"""The moves of the search, as plain functions on arrays of genomes.

The one idea: a genome has three kinds of genes (width, ratio, depth), and a mutation changes one
gene of one block. Where widths must not shrink, the blocks are then sorted: that keeps every
child a member, and since blocks of equal width may trade places at no cost, it also leaves one
genome where there were many equivalent ones.

All chance comes from the generator that is passed in. Nothing here knows costs or entropy.
"""

import numpy as np

from merino_edge.core.space import RATIO, WIDTH, SearchSpace

_STEPS = np.array([-2, -1, 1, 2])
_DRAWN_CHANCE = 0.3  # that a width is drawn afresh; a ratio always is, a depth never
_SECOND_CHANCE = 0.5  # that a child differs from its parent in two genes


def first_generation(space: SearchSpace, rng: np.random.Generator, n: int) -> np.ndarray:
    """The smallest member, which fits if anything does, and n - 1 random ones."""
    genomes = np.concatenate([space.smallest()[None], space.sample(rng, n - 1)])
    return canonical(genomes, space)


def mutate(genomes: np.ndarray, space: SearchSpace, rng: np.random.Generator) -> np.ndarray:
    """Children that differ from their parents in one or two genes.

    Args:
        genomes: Parents, shape (n, n_blocks, 3); not changed.
        space: Where the children will lie.
        rng: Source of chance.

    Returns:
        Children, same shape. A step against the border of the space may leave a gene as it was.
    """
    children = genomes.copy()
    everyone = np.arange(len(children))
    _change_one_gene(children, everyone, space, rng)
    _change_one_gene(children, everyone[rng.random(len(children)) < _SECOND_CHANCE], space, rng)
    return canonical(children, space)


def canonical(genomes: np.ndarray, space: SearchSpace) -> np.ndarray:
    """Genomes (n, n_blocks, 3) with their blocks in order of width, ratio, depth.

    Where widths may shrink the order of blocks matters, and they stay as they are.
    """
    if not space.monotone:
        return genomes
    _, n_ratios, n_depths = space.n_choices
    codes = (genomes @ np.array([n_ratios * n_depths, n_depths, 1])).astype(np.int64)
    codes.sort(axis=1)
    pairs, depth = np.divmod(codes, n_depths)
    return np.stack([*np.divmod(pairs, n_ratios), depth], axis=2)


def genome_keys(genomes: np.ndarray, space: SearchSpace) -> np.ndarray:
    """One uint64 per genome of (n, n_blocks, 3), equal for equal genomes.

    Mixed radix with odd bases: different genomes differ while the space has fewer than 2^64 codes.
    Beyond that it is a hash, and a rare collision only drops a candidate.
    """
    bases = np.array([choices | 1 for choices in space.n_choices] * space.n_blocks, dtype=np.uint64)
    weights = np.cumprod(np.append(np.uint64(1), bases[:-1]))
    return genomes.reshape(len(genomes), -1).astype(np.uint64) @ weights


def _change_one_gene(
    genomes: np.ndarray, rows: np.ndarray, space: SearchSpace, rng: np.random.Generator
) -> None:
    n_choices = np.array(space.n_choices)
    block = rng.integers(0, space.n_blocks, len(rows))
    gene = rng.integers(0, 3, len(rows))
    stepped = genomes[rows, block, gene] + rng.choice(_STEPS, len(rows))
    drawn = rng.integers(0, n_choices[gene])
    is_drawn = (gene == RATIO) | ((gene == WIDTH) & (rng.random(len(rows)) < _DRAWN_CHANCE))
    value = np.where(is_drawn, drawn, np.clip(stepped, 0, n_choices[gene] - 1))
    genomes[rows, block, gene] = value
