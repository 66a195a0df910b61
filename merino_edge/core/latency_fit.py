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

Not known here: why a price is what it is, devices other than the table's, and what is done with
the prices (``table_latency``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, exp

import numpy as np
from scipy.optimize import nnls  # type: ignore[import-untyped]

from merino_edge.core import counting
from merino_edge.core.latency_work import WORK, stored_in, total_read_mb, total_work
from merino_edge.core.table_latency import LatencyFit, TableLatency
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
# Of one token, a weight is read once and used once: one price.
_NOT_OF = {DECODE: ("weights x tokens",), PREFILL: ()}


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
    equations = _Equations(rows, architectures, phase, precision)
    measured, best = equations.measured, _best_caches(equations)
    *prices, spill = solve(best.work, measured).tolist()
    return LatencyFit(
        phase=phase,
        prices_ms=tuple(prices),
        cached_weights=best.cached,
        capacity_mb=best.capacity_mb,
        spill_ms_per_mb=spill,
        stored=equations.stored,
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


class _Equations:
    """The rows of one phase: work times prices is what was measured.

    Attributes:
        measured: (rows,), in milliseconds.
        read_mb: (rows,), what a call reads, weights and past.
        blocks: Weights of the blocks that are applied again.
        stored: Bytes of what is read.
    """

    def __init__(
        self,
        rows: Sequence[LatencyRow],
        architectures: dict[str, Architecture],
        phase: str,
        precision: str,
    ):
        names = sorted({row.architecture for row in rows})
        _refuse_few(len(names), phase)
        self._rows, self._architectures, self._phase = rows, architectures, phase
        self._folds = np.array([names.index(row.architecture) % N_FOLDS for row in rows])
        self._work: dict[int, np.ndarray] = {}
        self.stored = stored_in(precision)
        self.measured = np.array([row.latency_ms.p50 for row in rows])
        self.read_mb = np.array(
            [total_read_mb(*_call(row, architectures), self.stored) for row in rows]
        )
        self.blocks = _blocks(architectures[name] for name in names)

    def tried(self, cached: float, capacity_mb: float) -> _Try:
        """How well the folds foretell each other if caches hold so much."""
        spilled_mb = np.maximum(0.0, self.read_mb - capacity_mb)
        work = np.column_stack([self._work_by(int(cached)), spilled_mb])
        foretold = _foretold(work, self.measured, self._folds)
        error = float(np.mean(np.abs(foretold / self.measured - 1.0)))
        return _Try(error, int(cached), capacity_mb, work, foretold)

    def _work_by(self, cached: int) -> np.ndarray:
        if cached not in self._work:
            rows, architectures = self._rows, self._architectures
            self._work[cached] = rows_work(rows, architectures, cached, self._phase)
        return self._work[cached]


def _refuse_few(n_decoders: int, phase: str) -> None:
    if n_decoders < FEWEST_DECODERS:
        raise SpecError(
            f"{phase} was timed for {n_decoders} decoders, a fit needs {FEWEST_DECODERS}.",
            hint="merino-edge profile --space tiny -o table.json",
        )


def _best_caches(equations: _Equations) -> _Try:
    """A coarse grid over both sizes, which have to earn their place; then a fine one there."""
    blocks, read_mb = equations.blocks, equations.read_mb
    best = equations.tried(0.0, float(read_mb.max()))
    for cached in _thresholds(blocks):
        for capacity in _thresholds(read_mb):
            best = best.or_much_better(equations.tried(cached, capacity))
    for cached in _around(best.cached, blocks):
        for capacity in _around(best.capacity_mb, read_mb):
            best = min(best, equations.tried(cached, capacity), key=lambda each: each.error)
    return best


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
