"""What the page of a latency table shows: the table, its model, a budget and its finalists.

The one idea: the model is fitted once and all sections ask the same one. What is said of a row
depends on where the table comes from: a row of a *predicted* table is called so everywhere. A table
with too few decoders has no model, and the sections that need one say why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

from merino_edge.core.latency_fit import fit_table
from merino_edge.core.space import SearchSpace
from merino_edge.core.table_latency import LatencyFit, TableLatency
from merino_edge.errors import SpecError
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.latency_table import (
    MEASURED,
    PHASES,
    LatencyRow,
    LatencyTable,
    Workload,
)
from merino_edge.pipeline.confirmed import Confirmed
from merino_edge.runtime.profiler import relative_half_interval

CALLS = {"decode": "one token", "prefill": "a prompt"}


@dataclass(frozen=True)
class TableView:
    """All that the page is a function of.

    Attributes:
        table: The rows.
        model: What is fitted to them; None where they are too few.
        missing: Why there is no model, as a sentence; empty where there is one.
        limit_ms: Of a token; None without a budget.
        finalists: What a search found under it and timed.
        space: Whose sizes the heat maps show; None for those of the table's decoders.
    """

    table: LatencyTable
    model: TableLatency | None
    missing: str
    limit_ms: float | None = None
    finalists: Sequence[Confirmed] = ()
    space: SearchSpace | None = None

    @property
    def is_measured(self) -> bool:
        """A device was asked."""
        return self.table.provenance == MEASURED

    @property
    def row_word(self) -> str:
        """What a value of a row is."""
        return "measured" if self.is_measured else "the table’s own prediction"

    @property
    def fits(self) -> list[LatencyFit]:
        """One for each phase that is known."""
        found = [getattr(self.model, phase) for phase in PHASES] if self.model else []
        return [fit for fit in found if fit is not None]

    @property
    def budget_ms(self) -> float | None:
        """The limit of a token: the one given, or that of the finalists."""
        if self.limit_ms is None and self.finalists:
            return self.finalists[-1].limit_ms
        return self.limit_ms

    def architecture(self, row: LatencyRow) -> Architecture:
        """The decoder of a row."""
        return self.table.architectures[row.architecture]

    def longest(self, phase: str) -> int:
        """The longest length that was timed in a phase."""
        loads = [Workload.of_label(row.workload) for row in self.table.rows]
        return max(load.length for load in loads if load.phase == phase)


def view_of(
    table: LatencyTable,
    limit_ms: float | None = None,
    finalists: Sequence[Confirmed] = (),
    space: SearchSpace | None = None,
) -> TableView:
    """Fit the model of a table, if it has rows enough."""
    try:
        model, missing = fit_table(table), ""
    except SpecError as error:
        model, missing = None, f"No model could be fitted: {error.reason}"
    return TableView(table, model, missing, limit_ms, finalists, space)


def half_interval_ms(row: LatencyRow) -> float | None:
    """Half the 95 % interval of a row's median, as the profiler counts it; None for one sample."""
    if len(row.samples_ms) < 2:
        return None
    return row.latency_ms.p50 * relative_half_interval(row.samples_ms)


def ms_words(ms: float, half_ms: float | None = None) -> str:
    """Milliseconds for people, with half an interval, to the same digit, where there is one."""
    if half_ms is None:
        return f"{ms:.4g} ms"
    n_decimals = max(0, min(7, 3 - floor(log10(ms))))
    return f"{ms:.{n_decimals}f} ± {half_ms:.{n_decimals}f} ms"


def signed(fraction: float, digits: int = 1) -> str:
    """A share with its sign: 0.012 -> "+1.2 %", -0.00001 -> "0.0 %"."""
    rounded = round(100.0 * fraction, digits)
    if not rounded:
        return f"{0.0:.{digits}f} %"
    return f"{rounded:+.{digits}f} %".replace("-", "−")
