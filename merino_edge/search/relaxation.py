"""An upper bound on the entropy of every member with the same chain of widths.

The one idea: with the widths and the number of layers known, the effectiveness is bounded by that
of the widest way to place the layers, and what is left is a knapsack: entropy against limits. Its
Lagrangian relaxation (Everett 1963) prices every limit and drops it: for any prices >= 0,

    entropy(member) <= sum over blocks of (entropy - price x cost) + price x what the limits leave

holds for every member that keeps the budget, and the right side is chosen block by block: the
ratios each by itself, the depths as a longest path over the layers. A grid of prices is tried,
and the least bound counts.

Activations count with the cheapest ratios and stored bytes are not rounded up, which only loosens
the bound.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import numpy as np

from merino_edge.core.budget import LIMITS, Budget
from merino_edge.core.cost import Pricing
from merino_edge.core.entropy import effectiveness
from merino_edge.core.space import WIDTH, SearchSpace
from merino_edge.errors import SpecError
from merino_edge.search.tables import Tables

_SLACK = 1e-9  # of a limit, for sums in floating point
# Steps of the grid of prices by the number of limits, up to three times the best entropy for all
# that a limit leaves to the blocks. On the space `nano` with a limit on memory alone, a grid up to
# 1.25 leaves the proof open after a minute, one up to 2 ends within two seconds.
_STEPS = {1: 33, 2: 9, 3: 5}
_FEWEST_STEPS = 3
_HIGHEST_PRICE = 3.0
MOST_CHAINS = 2_000_000


@dataclass(frozen=True)
class Relaxation:
    """A space seen through M price vectors. W widths, R ratios, D depths; n chains; L layers.

    F first widths, as in ``Tables``.

    Attributes:
        chains: (n, n_blocks), indices of widths.
        first: (n,), which of the F.
        value: (M, F, W, R, D), what a block is worth: entropy less the price of its costs.
        best: (M, F, W, D), with the best ratio.
        credit: (n, M), the price of what the limits leave beside joints and ends.
        bound: (n, L + 1), no member with so many layers has more, in nats.
        price: (n, L + 1), the price vector that says so.
    """

    chains: np.ndarray
    first: np.ndarray
    value: np.ndarray
    best: np.ndarray
    credit: np.ndarray
    bound: np.ndarray
    price: np.ndarray


def relax(genome: np.ndarray, total: float, tables: Tables, budget: Budget) -> Relaxation:
    """Bound every chain of a space.

    Args:
        genome: A good member, shape (n_blocks, 3): prices are tried around what it pays.
        total: Of the best member known, in nats.
        tables: The space, priced.
        budget: The limits.

    Raises:
        SpecError: The space has more chains than can be held.
    """
    rates = _limits(tables, budget)
    chains = _chains(tables.space)
    block_costs = tables.block @ rates.T  # (W, R, D, K), in parts of the limits
    entropy = tables.entropy[..., None] * tables.depth  # (F, W, R, D)
    left = 1.0 + _SLACK - _fixed_costs(chains, rates, tables, budget)
    (left_to_it,) = 1.0 + _SLACK - _fixed_costs(genome[None, :, WIDTH], rates, tables, budget)
    prices = _prices(len(rates)) * total / left_to_it
    value = entropy - np.moveaxis(block_costs @ prices.T, -1, 0)[:, None]
    credit = left @ prices.T
    best, first = value.max(axis=3), tables.first(chains[:, 0])
    bound, price = _bounds(chains, best, credit, tables)
    return Relaxation(chains, first, value, best, credit, bound, price)


def _limits(tables: Tables, budget: Budget) -> np.ndarray:
    """(K, C): each limited cost as weights on the parts' prices, in units of its limit."""
    return np.concatenate([rows / bound for _, rows, bound in _limited(tables.pricing, budget)])


def _limited(pricing: Pricing, budget: Budget) -> list[tuple[str, np.ndarray, float]]:
    """Name, rows and limit of each limited cost; of several rows all must keep it."""
    rates = pricing.rates()
    limits = [(limit.cost, getattr(budget, limit.field)) for limit in LIMITS]
    return [(cost, rates[cost], bound) for cost, bound in limits if bound is not None]


def _fixed_costs(
    chains: np.ndarray, rates: np.ndarray, tables: Tables, budget: Budget
) -> np.ndarray:
    """(n, K): what a chain costs beside its blocks, in parts of the limits."""
    ends = tables.ends[chains[:, 0], chains[:, -1]]
    joints = tables.joint[chains[:, :-1], chains[:, 1:]].sum(axis=1)
    fixed: np.ndarray = (ends + joints) @ rates.T + _activations(chains, tables, budget)
    return fixed


def _activations(chains: np.ndarray, tables: Tables, budget: Budget) -> np.ndarray:
    """(n, K): the least activations of a chain, in parts of the limit on memory."""
    least = tables.activation_bytes.min(axis=1)[chains].max(axis=1)
    limited = _limited(tables.pricing, budget)
    is_memory = [cost == "peak_memory_bytes" for cost, rows, _ in limited for _ in rows]
    return np.outer(least / (budget.max_memory_bytes or np.inf), is_memory)


def _prices(n_limits: int) -> np.ndarray:
    """(M, K): a grid, in units of the best entropy for all that a limit leaves to the blocks."""
    even = np.linspace(0.0, 1.0, _STEPS.get(n_limits, _FEWEST_STEPS))
    steps = _HIGHEST_PRICE * even**1.5  # closer where the best prices as a rule are
    return np.array(list(product(steps, repeat=n_limits)))


def n_operations(tables: Tables, budget: Budget) -> int:
    """About how many elementary steps ``relax`` takes; a second is some 900 million."""
    space = tables.space
    n_limits = sum(len(rows) for _, rows, _ in _limited(tables.pricing, budget))
    n_steps = space.n_blocks * len(space.depths) * (space.n_blocks * space.depths[-1] + 1)
    return space.n_chains * len(_prices(n_limits)) * n_steps


def _chains(space: SearchSpace) -> np.ndarray:
    """(n, n_blocks): every chain of widths."""
    if space.n_chains > MOST_CHAINS:
        raise SpecError(
            f"the space '{space.name}' has {space.n_chains:,} chains of widths; "
            f"a proof can hold {MOST_CHAINS:,}.",
            hint="take fewer widths or blocks, or search by evolution.",
        )
    widths, n_blocks = range(len(space.d_models)), space.n_blocks
    every = combinations_with_replacement(widths, n_blocks)
    return np.array(list(every if space.monotone else product(widths, repeat=n_blocks)))


def _bounds(
    chains: np.ndarray, best: np.ndarray, credit: np.ndarray, tables: Tables
) -> tuple[np.ndarray, np.ndarray]:
    """``bound`` and ``price`` of the relaxation."""
    first = tables.first(chains[:, 0])
    *_, spread = longest_paths(log_widths(tables)[first, chains.T], tables.depth)
    n_layers = np.arange(spread.shape[1])
    possible = np.isfinite(spread)
    factor = effectiveness_of(n_layers, np.where(possible, spread, 0.0), tables)
    entropy, price = np.full(spread.shape, np.inf), np.zeros(spread.shape, dtype=np.int64)
    for index, worth in enumerate(best):
        *_, paths = longest_paths(worth[first, chains.T], tables.depth)
        paths += credit[:, index, None]
        price[paths < entropy] = index
        np.minimum(entropy, paths, out=entropy)
    return np.where(possible, factor * np.maximum(entropy, 0.0), 0.0), price


def log_widths(tables: Tables) -> np.ndarray:
    """(F, W, D): what a block adds to the layers' sum of logarithms of widths."""
    return np.asarray(tables.log_width[..., None] * tables.depth)


def effectiveness_of(n_layers: np.ndarray, log_sum: np.ndarray, tables: Tables) -> np.ndarray:
    """The factor for so many layers whose logarithms of widths add up to ``log_sum``."""
    gamma = n_layers / np.exp(log_sum / np.maximum(n_layers, 1))
    return np.asarray(effectiveness(gamma, tables.entropy_config))


def longest_paths(blocks: Iterable[np.ndarray], depth: np.ndarray) -> list[np.ndarray]:
    """After each block: the most that the blocks so far are worth with so many layers in all.

    Args:
        blocks: One (n, D) array a block, what each depth of it is worth.
        depth: (D,), the depths.

    Returns:
        Before the first block and after each, (n, layers + 1), -inf where it is impossible.
    """
    blocks = list(blocks)
    paths = np.full((len(blocks[0]), int(depth[-1]) * len(blocks) + 1), -np.inf)
    paths[:, 0] = 0.0
    stages = [paths]
    for worth in blocks:
        longer = np.full_like(paths, -np.inf)
        for index, layers in enumerate(depth):
            step = stages[-1][:, : paths.shape[1] - layers] + worth[:, index, None]
            np.maximum(longer[:, layers:], step, out=longer[:, layers:])
        stages.append(longer)
    return stages
