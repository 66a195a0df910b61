"""How well a table's model foretells decoders that it was not fitted to, and others beside it.

The one idea: a model is judged by what it never saw, next to what anyone would try first, on the
same rows. The simple predictors are fitted to the same rows as the model: time by FLOPs, by stored
parameters, by a roofline whose bandwidth and rate are fitted, and by the model's own sum of parts
without any cache.
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import kendalltau  # type: ignore[import-untyped]

from merino_edge.core import counting
from merino_edge.core.latency_fit import fit_table, rows_work, solve
from merino_edge.core.table_latency import LatencyFit
from merino_edge.errors import SpecError
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.latency_table import (
    DECODE,
    FIT,
    HELD_OUT,
    PHASES,
    LatencyRow,
    LatencyTable,
    PhaseValidation,
    Workload,
)

Features = Callable[[Architecture, Workload], list[float]]


def validate(table: LatencyTable) -> dict[str, PhaseValidation]:
    """Judge the model that is fitted to a table by the rows that were held out.

    Returns:
        Phase -> what was found; a phase without such rows is missing.

    Raises:
        SpecError: There are too few decoders to fit.
    """
    model = fit_table(table)
    fits = {phase: getattr(model, phase) for phase in PHASES}
    return {
        phase: _judged(fit, table.rows_of(HELD_OUT, phase), table)
        for phase, fit in fits.items()
        if fit and table.rows_of(HELD_OUT, phase)
    }


def judged(table: LatencyTable) -> LatencyTable:
    """A table with its validation; as it is where it has one, or too few rows for one."""
    if table.validation:
        return table
    try:
        return table.replace(validation=validate(table))
    except SpecError:
        return table


def foretell(fit: LatencyFit, rows: list[LatencyRow], table: LatencyTable) -> np.ndarray:
    """Milliseconds of each row, by a fit."""
    lengths = [Workload.of_label(row.workload).length for row in rows]
    pairs = zip(rows, lengths, strict=True)
    return np.array([fit.ms(table.architectures[row.architecture], n) for row, n in pairs])


def _judged(fit: LatencyFit, rows: list[LatencyRow], table: LatencyTable) -> PhaseValidation:
    foretold, measured = foretell(fit, rows, table), _measured(rows)
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
        others=_others(fit.phase, rows, table),
    )


def _others(phase: str, rows: list[LatencyRow], table: LatencyTable) -> dict[str, float]:
    """Name of a simple predictor -> mean of its absolute relative errors."""
    fitted, measured = table.rows_of(FIT, phase), _measured(rows)
    known, found = _measured(fitted), {}
    for name, features in _SIMPLE.items():
        here, there = (_features(features, each, table) for each in (fitted, rows))
        found[name] = _mape(there @ solve(here, known), measured)
    here, there = (rows_work(each, table.architectures, 0, phase) for each in (fitted, rows))
    found["sum of parts without a cache"] = _mape(there @ solve(here, known), measured)
    return found


def _mape(foretold: np.ndarray, measured: np.ndarray) -> float:
    return float(np.abs(foretold / measured - 1.0).mean())


def _measured(rows: list[LatencyRow]) -> np.ndarray:
    return np.array([row.latency_ms.p50 for row in rows])


def _features(features: Features, rows: list[LatencyRow], table: LatencyTable) -> np.ndarray:
    pairs = [(table.architectures[r.architecture], Workload.of_label(r.workload)) for r in rows]
    return np.array([features(*pair) for pair in pairs])


def _tokens(workload: Workload) -> int:
    return 1 if workload.phase == DECODE else workload.length


def _flops(a: Architecture, workload: Workload) -> list[float]:
    flops = counting.forward_flops(a, _tokens(workload), workload.length, 1)
    return [1.0, flops * 1e-9]


def _stored(a: Architecture, workload: Workload) -> list[float]:
    return [1.0, counting.n_params(a) * 1e-6 * _tokens(workload)]


def _roofline(a: Architecture, workload: Workload) -> list[float]:
    """A price for a number that is read, and for a prompt one for a number that is multiplied."""
    read = counting.linear_macs_per_token(a) + counting.head_macs(a)
    read += workload.length * counting.kv_bytes_per_token(a, 1)
    return [read * 1e-6, 0.0 if workload.phase == DECODE else _flops(a, workload)[1]]


_SIMPLE: dict[str, Features] = {
    "FLOPs": _flops,
    "stored parameters": _stored,
    "roofline, fitted": _roofline,
}
