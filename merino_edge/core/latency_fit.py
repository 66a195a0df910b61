"""From a table of timed decoders to a model of latency that knows its own error.

The one idea: what a call takes is a sum over its parts (layers, joints, the head), and what a part
takes is a sum over what it does (is called, reads weights for the first time, reads them again from
a cache, attends to so many tokens). So the times of a few dozen whole decoders are linear equations
for a handful of prices, one a kind of work; none can be below zero, and they are found by
non-negative least squares on *relative* errors. Prices then belong to parts, so a search can add
them up for millions of decoders.

Which blocks stay in a cache between two applications is one more number, the largest block that
does: it is the one that foretells best. On a device whose cache keeps nothing it comes out as none.

Error: the rows are foretold in ten parts, each by the other nine, decoders never split between
them. The quantile of those errors is the interval that the model states.

Not known here: why a price is what it is, and devices other than the table's. Far outside the sizes
that were timed (``LatencyFit.reach``) a sum of prices is still a guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, exp

import numpy as np
from scipy.optimize import nnls  # type: ignore[import-untyped]
from scipy.stats import kendalltau  # type: ignore[import-untyped]

from merino_edge.core import counting
from merino_edge.core.latency import Part, parts_of
from merino_edge.errors import SpecError
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.latency_table import (
    DECODE,
    FIT,
    HELD_OUT,
    PHASES,
    PREFILL,
    LatencyRow,
    LatencyTable,
    PhaseValidation,
    Workload,
)

LEVEL = 0.90  # of the stated interval
N_FOLDS = 10
CALL_TOKENS = 128  # most tokens that a session gives to one call of a backend
FEWEST_DECODERS = 12

# What a part does, per part of one call. Weights in millions, so that prices are of one size.
WORK = (
    "call", "layer", "layer width", "layer inner width", "weights first", "weights again",
    "weights x tokens", "attention", "attention rows", "head weights", "joint weights",
)  # fmt: skip
# Of one token, a weight is read once and used once: one price.
_NOT_OF = {DECODE: ("weights x tokens",), PREFILL: ()}
_MILLION = 1e-6


@dataclass(frozen=True)
class LatencyFit:
    """Prices of the kinds of work of one phase, and how wrong they are.

    Attributes:
        phase: "decode" or "prefill".
        prices_ms: Name in ``WORK`` -> milliseconds per unit.
        cached_weights: Blocks of at most so many weights stay in a cache between applications.
        spread: The stated interval is [ms / spread, ms x spread].
        level: Share of decoders that it promises to hold.
        fold_mape: Mean absolute relative error where the folds foretold each other.
        reach: Least and most milliseconds that were fitted.
        n_rows: Rows that were fitted.
    """

    phase: str
    prices_ms: dict[str, float]
    cached_weights: int
    spread: float
    level: float
    fold_mape: float
    reach: tuple[float, float]
    n_rows: int

    def part_ms(self, part: Part) -> float:
        """Milliseconds of one part."""
        return float(_work(part, self.cached_weights) @ self._prices)

    def ms(self, a: Architecture, length: int) -> float:
        """Milliseconds of a whole call.

        Args:
            a: The decoder.
            length: As in ``Workload``.
        """
        return float(total_work(a, Workload(self.phase, length), self.cached_weights)
                     @ self._prices)  # fmt: skip

    @property
    def _prices(self) -> np.ndarray:
        return np.array([self.prices_ms[name] for name in WORK])


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
    def decode_spread(self) -> float:
        """The upper end of the interval of a token, over its time."""
        return self._spread(self.decode)

    @property
    def prefill_spread(self) -> float:
        """The upper end of the interval of a prompt, over its time."""
        return self._spread(self.prefill)

    def part_ms(self, part: Part) -> float:
        """Milliseconds of a part: of a token if one goes in, of a prompt otherwise."""
        fit = self.decode if part.q_len == 1 else self.prefill
        assert fit is not None  # asked only for what it knows
        return self.factor * fit.part_ms(part)

    def ms(self, a: Architecture, workload: Workload) -> float:
        """Milliseconds of a whole call."""
        fit = self.decode if workload.phase == DECODE else self.prefill
        assert fit is not None
        return self.factor * fit.ms(a, workload.length)

    def corrected(self, factor: float, certainty: float) -> "TableLatency":
        """The same, after finalists were measured."""
        return replace(self, factor=factor, certainty=certainty)

    def _spread(self, fit: LatencyFit | None) -> float:
        if self.certainty is not None:
            return self.certainty
        return fit.spread if fit else 1.0


def fit_table(table: LatencyTable) -> TableLatency:
    """A model from the rows of a table that are for fitting.

    Raises:
        SpecError: There are too few decoders.
    """
    fits = {phase: table.rows_of(FIT, phase) for phase in PHASES}
    return TableLatency(
        **{
            phase: fit_rows(rows, table.architectures, phase) if rows else None
            for phase, rows in fits.items()
        }
    )


def fit_rows(
    rows: Sequence[LatencyRow], architectures: dict[str, Architecture], phase: str
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
    measured = np.array([row.latency_ms.p50 for row in rows])
    folds = np.array([names.index(row.architecture) % N_FOLDS for row in rows])
    best = None
    for cached in _thresholds(architectures[name] for name in names):
        work = _rows_work(rows, architectures, cached)
        foretold = _foretold(work, measured, folds, phase)
        error = float(np.mean(np.abs(foretold / measured - 1.0)))
        if best is None or error < 0.995 * best[0]:  # a tie goes to the smaller cache
            best = error, cached, work, foretold
    assert best is not None
    error, cached, work, foretold = best
    return LatencyFit(
        phase=phase,
        prices_ms=dict(zip(WORK, _prices(work, measured, phase).tolist(), strict=True)),
        cached_weights=cached,
        spread=_spread_of(np.log(measured / foretold)),
        level=LEVEL,
        fold_mape=error,
        reach=(float(measured.min()), float(measured.max())),
        n_rows=len(rows),
    )


def validate(table: LatencyTable) -> dict[str, PhaseValidation]:
    """How well the rows for fitting foretell those that were held out, phase by phase.

    Raises:
        SpecError: There are too few decoders to fit.
    """
    model, found = fit_table(table), {}
    for phase in PHASES:
        rows, fit = table.rows_of(HELD_OUT, phase), getattr(model, phase)
        if rows and fit:
            found[phase] = _judged(fit, rows, table)
    return found


def _judged(fit: LatencyFit, rows: list[LatencyRow], table: LatencyTable) -> PhaseValidation:
    lengths = [Workload.of_label(row.workload).length for row in rows]
    pairs = zip(rows, lengths, strict=True)
    foretold = np.array([fit.ms(table.architectures[r.architecture], n) for r, n in pairs])
    measured = np.array([row.latency_ms.p50 for row in rows])
    errors = foretold / measured - 1.0
    inside = np.abs(np.log(measured / foretold)) <= np.log(fit.spread)
    return PhaseValidation(
        n_architectures=len({row.architecture for row in rows}),
        n_rows=len(rows),
        mape=float(np.abs(errors).mean()),
        worst=float(np.abs(errors).max()),
        within_5=float((np.abs(errors) <= 0.05).mean()),
        within_10=float((np.abs(errors) <= 0.10).mean()),
        kendall_tau=float(kendalltau(foretold, measured).statistic),
        coverage=float(inside.mean()),
        level=fit.level,
        bias=float(errors.mean()),
        others=_others(fit, rows, measured, table),
    )


def _others(
    fit: LatencyFit, rows: list[LatencyRow], measured: np.ndarray, table: LatencyTable
) -> dict[str, float]:
    """What simpler predictors, fitted to the same rows, make of the same held-out rows."""
    fitted = table.rows_of(FIT, fit.phase)
    known = np.array([row.latency_ms.p50 for row in fitted])
    found = {}
    for name, features in _SIMPLE.items():
        here, there = (
            np.array([features(table.architectures[r.architecture], r.workload) for r in each])
            for each in (fitted, rows)
        )
        foretold = there @ nnls(here / known[:, None], np.ones(len(known)))[0]
        found[name] = float(np.abs(foretold / measured - 1.0).mean())
    foretold = _rows_work(rows, table.architectures, 0) @ _prices(
        _rows_work(fitted, table.architectures, 0), known, fit.phase
    )
    found["sum of parts without a cache"] = float(np.abs(foretold / measured - 1.0).mean())
    return found


def _flops(a: Architecture, label: str) -> list[float]:
    phase, length = Workload.of_label(label)
    tokens, past = (1, length) if phase == DECODE else (length, length)
    return [1.0, counting.forward_flops(a, tokens, past, 1) * 1e-9]


def _stored(a: Architecture, label: str) -> list[float]:
    phase, length = Workload.of_label(label)
    return [1.0, counting.n_params(a) * _MILLION * (1 if phase == DECODE else length)]


def _bytes(a: Architecture, label: str) -> list[float]:
    """One price for a number that is read, one for one that is multiplied: a fitted roofline."""
    phase, length = Workload.of_label(label)
    tokens = 1 if phase == DECODE else length
    read = counting.linear_macs_per_token(a) + counting.head_macs(a)
    read += length * counting.kv_bytes_per_token(a, 1)
    return [read * _MILLION, 0.0 if phase == DECODE else _flops(a, label)[1] * tokens / length]


_SIMPLE = {"FLOPs": _flops, "stored parameters": _stored, "roofline, fitted": _bytes}


def _thresholds(architectures: object) -> list[int]:
    """Sizes of blocks to try as the largest that stays in a cache; 0 for none."""
    sizes = sorted(
        {
            counting.block_matrix_params(a, index)
            for a in architectures  # type: ignore[attr-defined]
            for index, block in enumerate(a.blocks)
            if block.depth > 1
        }
    )
    steps = np.linspace(0, len(sizes) - 1, min(len(sizes), 12)).astype(int) if sizes else []
    return [0, *(sizes[i] for i in steps)]


def _rows_work(
    rows: Sequence[LatencyRow], architectures: dict[str, Architecture], cached: int
) -> np.ndarray:
    """(rows, kinds of work)."""
    return np.array(
        [
            total_work(architectures[row.architecture], Workload.of_label(row.workload), cached)
            for row in rows
        ]
    )


def total_work(a: Architecture, workload: Workload, cached: int) -> np.ndarray:
    """What a whole call does, in the order of ``WORK``.

    Args:
        a: The decoder.
        workload: The call.
        cached: Blocks of at most so many weights stay in a cache between applications.
    """
    decodes, length = workload.phase == DECODE, workload.length
    parts = parts_of(a, 1 if decodes else length, length)
    total: np.ndarray = np.sum([_work(part, cached) for part in parts], axis=0)
    return total


def _work(part: Part, cached: int) -> np.ndarray:
    """What one part does, in the order of ``WORK``."""
    calls, weights = ceil(part.q_len / CALL_TOKENS), part.weights * _MILLION
    if part.op == "head":
        return _named({"call": calls, "head weights": calls * weights})
    if part.op == "joint":
        return _named({"joint weights": part.q_len * weights})
    assert part.block is not None
    block, q_len = part.block, part.q_len
    stays = part.again and part.weights <= cached
    pairs = q_len * part.kv_len * _MILLION
    return _named(
        {
            "layer": calls,
            "layer width": q_len * block.d_model * 1e-3,
            "layer inner width": q_len * block.d_ff * 1e-3,
            "weights again" if stays else "weights first": calls * weights,
            "weights x tokens": q_len * weights,
            "attention": pairs * block.n_head * block.head_dim,
            "attention rows": pairs * block.n_head * 1e2,
        }
    )


def _named(found: dict[str, float]) -> np.ndarray:
    return np.array([found.get(name, 0.0) for name in WORK])


def _prices(work: np.ndarray, measured: np.ndarray, phase: str) -> np.ndarray:
    """Non-negative least squares on relative errors."""
    kept = np.array([name not in _NOT_OF[phase] for name in WORK])
    prices = np.zeros(len(WORK))
    prices[kept] = nnls(work[:, kept] / measured[:, None], np.ones(len(measured)))[0]
    return prices


def _foretold(work: np.ndarray, measured: np.ndarray, folds: np.ndarray, phase: str) -> np.ndarray:
    """Each row, by the rows of the other folds."""
    foretold = np.empty(len(measured))
    for fold in np.unique(folds):
        there = folds == fold
        foretold[there] = work[there] @ _prices(work[~there], measured[~there], phase)
    return foretold


def _spread_of(logs: np.ndarray) -> float:
    """The factor that holds ``LEVEL`` of new errors: the conformal quantile of those seen."""
    ordered = np.sort(np.abs(logs))
    place = min(len(ordered), ceil((len(ordered) + 1) * LEVEL)) - 1
    return exp(float(ordered[place]))
