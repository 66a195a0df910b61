"""The proof: how far the best that is known can be from the best there is.

The one idea: branch over the *chain* of widths, then the depths, then the ratios, and at each
step ask an upper bound (``search.relaxation``) whether going on can pay. Chains are visited in the
order of their bounds, so at any moment the next bound, or the best member, whichever is more, is
proven for the whole space: the search may stop and still say how far it got. Members that reach
the end are priced and scored as evolution does it.

Blocks of equal width may trade places, so their depths are taken in falling order. It needs the
entropy as the objective.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from merino_edge.core.budget import Budget
from merino_edge.search.candidate import score
from merino_edge.search.relaxation import (
    Relaxation,
    effectiveness_of,
    log_widths,
    longest_paths,
    relax,
)
from merino_edge.search.tables import Tables

RESOLUTION_NATS = 1e-3  # totals closer than this are the same sum in another order
_MOST_STATES = 300_000  # at a time; with more, memory would run out, and the chain stays open


class Certificate(NamedTuple):
    """What is proven about a search.

    Attributes:
        best_total: Of the best member known, in nats.
        upper_bound: No member that keeps the budget has more, in nats.
        complete: The whole space was settled, so the best is an optimum.
        n_chains: Chains of widths in the space.
        n_visited: Chains that were looked into; the bounds of all others are too low.
    """

    best_total: float
    upper_bound: float
    complete: bool
    n_chains: int
    n_visited: int

    @property
    def gap(self) -> float:
        """How far below the bound the best is, as a fraction of the bound."""
        return 1.0 - self.best_total / self.upper_bound if self.upper_bound > 0.0 else 0.0


class _States(NamedTuple):
    """Partly chosen members of one chain; m of them.

    Attributes:
        n_layers: (m,), layers in the end.
        price: (m,), index of the price vector that bounds it.
        genes: (m, blocks so far), indices of depths, later of ratios.
        left: (m,), layers that the other blocks will have.
        log_sum: (m,), of the layers so far.
        worth: (m,), of the blocks so far, credit included.
    """

    n_layers: np.ndarray
    price: np.ndarray
    genes: np.ndarray
    left: np.ndarray
    log_sum: np.ndarray
    worth: np.ndarray

    def take(self, rows: np.ndarray) -> "_States":
        return _States(*(column[rows] for column in self))

    def times(self, n_choices: int) -> tuple["_States", np.ndarray]:
        """Each state once for every choice, and the choices."""
        choice = np.tile(np.arange(n_choices), len(self.price))
        repeated = _States(*(np.repeat(column, n_choices, axis=0) for column in self))
        genes = np.column_stack([repeated.genes, choice])
        return repeated._replace(genes=genes), choice


class _TooMany(Exception):
    """A chain has more states than may be held or looked at."""


class _Effort:
    """Counts the states that were looked at."""

    def __init__(self, most: int | None):
        self.left = np.inf if most is None else most

    def spend(self, states: _States) -> None:
        self.left -= len(states.price)
        if len(states.price) > _MOST_STATES or self.left < 0:
            raise _TooMany


def certify(
    genome: np.ndarray,
    total: float,
    tables: Tables,
    budget: Budget,
    max_states: int | None = None,
    on_progress: Callable[[Certificate], None] = lambda certificate: None,
) -> tuple[np.ndarray | None, Certificate]:
    """Settle a space: find what is better than ``total``, or prove that nothing is.

    Args:
        genome: A good member of the space that keeps the budget, shape (n_blocks, 3).
        total: Of the best member known, which may be of another vocabulary; in nats, above 0.
        tables: The space, priced.
        budget: The limits.
        max_states: Stop after so many partly chosen members; None to finish.
        on_progress: Told after each chain.

    Returns:
        The best genome of the space, None if it has none better; and what is proven.

    Raises:
        SpecError: The space has more chains than can be held.
    """
    relaxation = relax(genome, total, tables, budget)
    bounds = relaxation.bound.max(axis=1)
    order = np.argsort(-bounds, kind="stable")
    rest = np.append(bounds[order], 0.0)
    better, n_visited, open_bound = None, 0, 0.0
    effort = _Effort(max_states)
    while rest[n_visited] > total + RESOLUTION_NATS and effort.left >= 0:
        try:
            found = _best_of_chain(relaxation, int(order[n_visited]), tables, budget, total, effort)
            better, total = found or (better, total)
        except _TooMany:
            open_bound = max(open_bound, rest[n_visited])
        n_visited += 1
        upper_bound = max(open_bound, rest[n_visited])
        on_progress(_certificate(total, upper_bound, len(order), n_visited))
    return better, _certificate(total, max(open_bound, rest[n_visited]), len(order), n_visited)


def _certificate(total: float, bound: float, n_chains: int, n_visited: int) -> Certificate:
    complete = bool(bound <= total + RESOLUTION_NATS)
    return Certificate(total, total if complete else float(bound), complete, n_chains, n_visited)


def _best_of_chain(
    relaxation: Relaxation,
    row: int,
    tables: Tables,
    budget: Budget,
    total: float,
    effort: _Effort,
) -> tuple[np.ndarray, float] | None:
    """The best member with these widths, if it has more than ``total``."""
    states = _choose_depths(relaxation, row, tables, total, effort)
    genomes = _choose_ratios(relaxation, row, states, tables, total, effort)
    if not len(genomes):
        return None
    scores = score(genomes, tables, budget)
    totals = np.where(scores.excess == 0.0, scores.total, 0.0)
    first = int(totals.argmax())
    better = totals[first] > total + RESOLUTION_NATS
    return (genomes[first], float(totals[first])) if better else None


def _choose_depths(
    relaxation: Relaxation, row: int, tables: Tables, total: float, effort: _Effort
) -> _States:
    """All depths of a chain's blocks whose bound is above ``total``."""
    chain, depth, first = relaxation.chains[row], tables.depth, relaxation.first[row]
    logs = log_widths(tables)[first]
    states = _first_states(relaxation, row, total)
    best = relaxation.best[:, first, chain]  # (M, n_blocks, D)
    # What the blocks from each one on can still add, by the layers that they will have.
    log_tails = longest_paths(logs[chain[::-1], None], depth)[::-1]
    tails = longest_paths(best[:, ::-1].swapaxes(0, 1), depth)[::-1]
    for block, width in enumerate(chain):
        states, choice = states.times(len(depth))
        states = states._replace(left=states.left - depth[choice])
        possible = states.left >= 0
        if tables.space.monotone and block and width == chain[block - 1]:
            possible &= choice <= states.genes[:, -2]
        states, choice = states.take(possible), choice[possible]
        states = states._replace(
            log_sum=states.log_sum + logs[width, choice],
            worth=states.worth + best[states.price, block, choice],
        )
        log_sum = states.log_sum + log_tails[block + 1][0, states.left]
        worth = states.worth + tails[block + 1][states.price, states.left]
        states = states.take(_can_pay(states.n_layers, log_sum, worth, tables, total))
        effort.spend(states)
    return states


def _first_states(relaxation: Relaxation, row: int, total: float) -> _States:
    """One state for each number of layers that can pay."""
    n_layers = np.flatnonzero(relaxation.bound[row] > total + RESOLUTION_NATS)
    price = relaxation.price[row, n_layers]
    return _States(
        n_layers=n_layers,
        price=price,
        genes=np.zeros((len(n_layers), 0), dtype=np.int64),
        left=n_layers,
        log_sum=np.zeros(len(n_layers)),
        worth=relaxation.credit[row, price],
    )


def _can_pay(
    n_layers: np.ndarray, log_sum: np.ndarray, worth: np.ndarray, tables: Tables, total: float
) -> np.ndarray:
    possible = np.isfinite(log_sum) & np.isfinite(worth)
    factor = effectiveness_of(n_layers, np.where(possible, log_sum, 0.0), tables)
    return np.asarray(
        possible & (factor * np.where(possible, worth, 0.0) > total + RESOLUTION_NATS)
    )


def _choose_ratios(
    relaxation: Relaxation, row: int, states: _States, tables: Tables, total: float, effort: _Effort
) -> np.ndarray:
    """Genomes (m, n_blocks, 3): the given depths with all ratios whose bound is above ``total``."""
    chain, depths = relaxation.chains[row], states.genes
    first = relaxation.first[row]
    value, best = relaxation.value[:, first], relaxation.best[:, first]
    n_ratios = value.shape[2]
    states = states._replace(genes=depths[:, :0])
    for block, width in enumerate(chain):
        depths = np.repeat(depths, n_ratios, axis=0)
        states, choice = states.times(n_ratios)
        depth = depths[:, block]
        gain = value[states.price, width, choice, depth]
        states = states._replace(worth=states.worth + gain - best[states.price, width, depth])
        keep = _can_pay(states.n_layers, states.log_sum, states.worth, tables, total)
        states, depths = states.take(keep), depths[keep]
        effort.spend(states)
    return np.stack([np.broadcast_to(chain, depths.shape), states.genes, depths], axis=2)
