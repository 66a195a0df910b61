"""From a table of timed decoders to a model of latency that knows its own error.

The one idea: what a call takes is a sum over its parts (layers, joints, the head), and what a part
takes is a sum over the kinds of work it does (``latency_work``). So the times of a few dozen whole
decoders are linear equations for a handful of prices; none can be below zero, and they are found by
non-negative least squares on *relative* errors. Prices then belong to parts, so a search can add
them up for millions of decoders.

Caches add three numbers, taken from a grid by what foretells best. Blocks of at most so many
weights stay in a cache between two applications, and reading them *again* has a price of its own.
And all that a token reads, weights and past together, comes around once a token: what is more than
the *capacity* of a cache is read from behind it, each token, at a price on top (the *spill*). On a
device whose caches keep nothing both come out as none.

Error: the rows are foretold in ten parts, each by the other nine, decoders never split between
them. The quantile of those errors is the interval that the model states.

Not known here: why a price is what it is, and devices other than the table's. Far outside the sizes
that were timed (``LatencyFit.reach``) a sum of prices is still a guess.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil, exp

import numpy as np
from scipy.optimize import nnls  # type: ignore[import-untyped]

from merino_edge.core import counting
from merino_edge.core.latency import Part
from merino_edge.core.latency_work import (
    WORK,
    Stored,
    call_parts,
    part_work,
    read_mb,
    stored_in,
    total_read_mb,
    total_work,
)
from merino_edge.errors import SpecError
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.latency_table import (
    DECODE,
    FIT,
    PHASES,
    PREFILL,
    LatencyRow,
    LatencyTable,
    Workload,
)

LEVEL = 0.90  # of the stated interval
N_FOLDS = 10
FEWEST_DECODERS = 16
N_THRESHOLDS = 8  # of each kind that are tried
BETTER = 0.95  # of the error: so much better must a larger cache foretell to be believed
FAR = 1.25  # beyond the least and the most that was fitted
# Of one token, a weight is read once and used once: one price.
_NOT_OF = {DECODE: ("weights x tokens",), PREFILL: ()}


@dataclass(frozen=True)
class LatencyFit:
    """Prices of the kinds of work of one phase, and how wrong they are.

    Attributes:
        phase: "decode" or "prefill".
        prices_ms: Milliseconds per unit, in the order of ``WORK``.
        cached_weights: Blocks of at most so many weights stay in a cache between applications.
        capacity_mb: Of weights and past that a call reads, so much comes from a cache.
        spill_ms_per_mb: What the rest costs on top.
        stored: Bytes of what a call reads, to count megabytes with.
        spread: The stated interval is [ms / spread, ms x spread].
        level: Share of decoders that it promises to hold.
        fold_mape: Mean absolute relative error where the folds foretold each other.
        reach: Least and most milliseconds that were fitted.
        n_rows: Rows that were fitted.
    """

    phase: str
    prices_ms: tuple[float, ...]
    cached_weights: int
    capacity_mb: float
    spill_ms_per_mb: float
    stored: Stored
    spread: float
    level: float
    fold_mape: float
    reach: tuple[float, float]
    n_rows: int

    def part_ms(self, part: Part) -> float:
        """Milliseconds of one part, without what spills."""
        return float(part_work(part, self.cached_weights) @ np.array(self.prices_ms))

    def spill_ms(self, part: Part) -> float:
        """What one part adds where the call does not fit the cache; the head holds the capacity."""
        room_mb = self.capacity_mb if part.op == "head" else 0.0
        return self.spill_ms_per_mb * (read_mb(part, self.stored) - room_mb)

    def ms(self, a: Architecture, length: int) -> float:
        """Milliseconds of a whole call.

        Args:
            a: The decoder.
            length: As in ``Workload``.
        """
        parts = call_parts(a, Workload(self.phase, length))
        spill_ms = sum(times * self.spill_ms(part) for times, part in parts)
        return sum(times * self.part_ms(part) for times, part in parts) + max(0.0, spill_ms)


@dataclass(frozen=True)
class TableLatency:
    """The latency model of a table; see ``core.latency.LatencyModel``.

    Attributes:
        decode, prefill: The fits; None for a phase that the table does not hold.
        factor: Everything takes so many times what was fitted: what measured finalists showed.
        certainty: Instead of the fits' spreads, once finalists were measured.
    """

    decode: LatencyFit | None
    prefill: LatencyFit | None
    factor: float = 1.0
    certainty: float | None = None
    basis: str = "table"

    @property
    def knows_decode(self) -> bool:
        """It has times for one token."""
        return self.decode is not None

    @property
    def knows_prefill(self) -> bool:
        """It has times for a prompt."""
        return self.prefill is not None

    @property
    def spills(self) -> bool:
        """A fit has a price for what does not fit a cache."""
        fits = (self.decode, self.prefill)
        return any(fit is not None and fit.spill_ms_per_mb > 0.0 for fit in fits)

    @property
    def decode_spread(self) -> float:
        """The upper end of the interval of a token, over its time."""
        return self._spread(self.decode)

    @property
    def prefill_spread(self) -> float:
        """The upper end of the interval of a prompt, over its time."""
        return self._spread(self.prefill)

    def part_ms(self, part: Part) -> float:
        """Milliseconds of a part: of a token if one goes in, of a prompt otherwise."""
        return self.factor * self._fit(part.q_len == 1).part_ms(part)

    def spill_ms(self, part: Part) -> float:
        """What a part adds where the whole does not fit."""
        return self.factor * self._fit(part.q_len == 1).spill_ms(part)

    def beyond_reach(self, decode_ms: float) -> str | None:
        """A sentence where a token takes much more or less than any that was fitted."""
        assert self.decode is not None
        least, most = self.decode.reach
        if least / FAR <= decode_ms <= most * FAR:
            return None
        return (
            f"{decode_ms:.3f} ms a token lie outside what the table was fitted to, {least:.3f} to "
            f"{most:.3f} ms: the stated interval says nothing there."
        )

    def ms(self, a: Architecture, workload: Workload) -> float:
        """Milliseconds of a whole call."""
        return self.factor * self._fit(workload.phase == DECODE).ms(a, workload.length)

    def corrected(self, factor: float, certainty: float) -> "TableLatency":
        """The same, after finalists were measured."""
        return replace(self, factor=factor, certainty=certainty)

    def _fit(self, of_a_token: bool) -> LatencyFit:
        fit = self.decode if of_a_token else self.prefill
        assert fit is not None  # asked only for what it knows
        return fit

    def _spread(self, fit: LatencyFit | None) -> float:
        if self.certainty is not None:
            return self.certainty
        return fit.spread if fit else 1.0


def fit_table(table: LatencyTable) -> TableLatency:
    """A model from the rows of a table that are for fitting.

    Raises:
        SpecError: There are too few decoders.
    """
    fits: dict[str, LatencyFit | None] = dict.fromkeys(PHASES)
    for phase in PHASES:
        rows = table.rows_of(FIT, phase)
        if rows:
            fits[phase] = fit_rows(rows, table.architectures, phase, table.setting.precision)
    return TableLatency(fits[DECODE], fits[PREFILL])


def fit_rows(
    rows: Sequence[LatencyRow], architectures: dict[str, Architecture], phase: str, precision: str
) -> LatencyFit:
    """Prices from timed rows of one phase.

    Raises:
        SpecError: They are of fewer decoders than ``FEWEST_DECODERS``.
    """
    names = sorted({row.architecture for row in rows})
    if len(names) < FEWEST_DECODERS:
        raise SpecError(
            f"{phase} was timed for {len(names)} decoders, a fit needs {FEWEST_DECODERS}.",
            hint="merino-edge profile --space tiny -o table.json",
        )
    stored = stored_in(precision)
    measured = np.array([row.latency_ms.p50 for row in rows])
    folds = np.array([names.index(row.architecture) % N_FOLDS for row in rows])
    read = np.array([total_read_mb(*_call(row, architectures), stored) for row in rows])
    blocks = _blocks(architectures[name] for name in names)

    @cache
    def work_by(cached: int) -> np.ndarray:
        return rows_work(rows, architectures, cached, phase)

    def foretold_by(cached: float, capacity_mb: float) -> _Try:
        work = np.column_stack([work_by(int(cached)), np.maximum(0.0, read - capacity_mb)])
        foretold = _foretold(work, measured, folds)
        error = float(np.mean(np.abs(foretold / measured - 1.0)))
        return _Try(error, int(cached), capacity_mb, work, foretold)

    best = foretold_by(0.0, float(read.max()))
    for cached in _thresholds(blocks):
        for capacity in _thresholds(read):
            best = best.or_much_better(foretold_by(cached, capacity))
    for cached in _around(best.cached, blocks):
        for capacity in _around(best.capacity_mb, read):
            best = min(best, foretold_by(cached, capacity), key=lambda each: each.error)
    *prices, spill = solve(best.work, measured).tolist()
    return LatencyFit(
        phase=phase,
        prices_ms=tuple(prices),
        cached_weights=best.cached,
        capacity_mb=best.capacity_mb,
        spill_ms_per_mb=spill,
        stored=stored,
        spread=_spread_of(np.log(measured / best.foretold)),
        level=LEVEL,
        fold_mape=best.error,
        reach=(float(measured.min()), float(measured.max())),
        n_rows=len(rows),
    )


@dataclass(frozen=True)
class _Try:
    """One pair of caches: how well it foretells, and with what."""

    error: float
    cached: int
    capacity_mb: float
    work: np.ndarray
    foretold: np.ndarray

    def or_much_better(self, other: "_Try") -> "_Try":
        """The other one if it errs less by ``BETTER``: no cache is claimed that explains little."""
        return other if other.error < BETTER * self.error else self


def rows_work(
    rows: Sequence[LatencyRow], architectures: dict[str, Architecture], cached: int, phase: str
) -> np.ndarray:
    """(rows, kinds of work); nothing in the kinds that a phase does not tell apart."""
    kept = np.array([name not in _NOT_OF[phase] for name in WORK])
    done = np.array([total_work(*_call(row, architectures), cached) for row in rows])
    kept_of: np.ndarray = kept * done
    return kept_of


def solve(work: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Prices: non-negative least squares on relative errors.

    Args:
        work: (rows, kinds).
        measured: (rows,), in milliseconds.
    """
    prices: np.ndarray = nnls(work / measured[:, None], np.ones(len(measured)))[0]
    return prices


def _call(row: LatencyRow, architectures: dict[str, Architecture]) -> tuple[Architecture, Workload]:
    return architectures[row.architecture], Workload.of_label(row.workload)


def _blocks(architectures: Iterable[Architecture]) -> np.ndarray:
    """Weights of all blocks that are applied again."""
    return np.array(
        [
            counting.block_matrix_params(a, index)
            for a in architectures
            for index, block in enumerate(a.blocks)
            if block.depth > 1
        ]
    )


def _thresholds(sizes: np.ndarray) -> list[float]:
    """Sizes to try as what a cache holds, evenly over their logarithms; first 0, for none."""
    return [0.0, *_grid(sizes).tolist()]


def _around(size: float, sizes: np.ndarray) -> list[float]:
    """Sizes between a threshold's neighbours, to try next; 0 and the largest stay as they are."""
    if size == 0.0 or size >= sizes.max():
        return [size]
    grid = _grid(sizes)
    step = grid[1] / grid[0]
    return [float(each) for each in np.geomspace(size / step, size * step, 7)]


def _grid(sizes: np.ndarray) -> np.ndarray:
    if not len(sizes):
        return np.zeros(0)
    return np.geomspace(max(sizes.min(), 1e-6), sizes.max(), N_THRESHOLDS)


def _foretold(work: np.ndarray, measured: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Each row, by the rows of the other folds."""
    foretold = np.empty(len(measured))
    for fold in np.unique(folds):
        there = folds == fold
        foretold[there] = work[there] @ solve(work[~there], measured[~there])
    return foretold


def _spread_of(logs: np.ndarray) -> float:
    """The factor that holds ``LEVEL`` of new errors: the conformal quantile of those seen."""
    ordered = np.sort(np.abs(logs))
    place = min(len(ordered), ceil((len(ordered) + 1) * LEVEL)) - 1
    return max(exp(float(ordered[place])), 1.0 + 1e-6)
