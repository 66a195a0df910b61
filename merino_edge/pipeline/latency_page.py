"""A latency table as one page for people: how long decoders take, and how far to trust the model.

The one idea: as the report of a search, the page stands alone: no script, nothing from the network,
and it is a function of the table, so the same table gives the same bytes. It says first what was
measured and where; a predicted table is called so in its first sentence. All rows are at its end.
"""

from collections.abc import Sequence

from merino_edge.core.space import SearchSpace
from merino_edge.formats.architecture import describe
from merino_edge.formats.jsonio import write_bytes_atomic
from merino_edge.formats.latency_table import LatencyRow, LatencyTable
from merino_edge.pipeline import (
    latency_finalists,
    latency_head,
    latency_maps,
    latency_prices,
    latency_trust,
)
from merino_edge.pipeline.confirmed import Confirmed
from merino_edge.pipeline.latency_view import TableView, half_interval_ms, ms_words, view_of
from merino_edge.pipeline.markup import Markup, section, table, tag
from merino_edge.pipeline.report_style import page

_ROLE_WORDS = {"fit": "fitted", "held_out": "held out"}


def write_latency_page(
    path: str,
    table: LatencyTable,
    limit_ms: float | None = None,
    finalists: Sequence[Confirmed] = (),
    space: SearchSpace | None = None,
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: Of the HTML file.
        table: With its validation, where it has one.
        limit_ms: Budget of a token, to draw; None for that of the finalists, if any.
        finalists: What a search found under it and timed.
        space: Whose sizes the heat maps show; None for those of the table's decoders.

    Raises:
        OSError: The file cannot be written.
    """
    text = latency_html(view_of(table, limit_ms, finalists, space))
    write_bytes_atomic(path, text.encode("utf-8"))


def latency_html(view: TableView) -> str:
    """The page."""
    sections = (
        latency_head.summary,
        latency_finalists.finalists,
        latency_trust.prediction,
        latency_trust.validation,
        latency_maps.layer_maps,
        latency_prices.prices,
        latency_head.conditions,
        rows,
    )
    return page(f"Latency table: {view.table.name}", *(each(view) for each in sections))


def rows(view: TableView) -> Markup:
    """All rows."""
    sentence = (
        "The median of the rounds, with half its 95 % interval. Rows marked as throttled were "
        "taken while the device said that it slows itself down, and are not fitted."
    )
    if not view.is_measured:
        sentence = "Each row is one prediction; there are no rounds and no intervals."
    header = ("architecture", "used", "workload", "median", "rounds", "throttled")
    listed = table(header, [_row(row, view) for row in view.table.rows], 3)
    summary = tag("summary", f"all {len(view.table.rows):,} rows")
    return section("The rows", sentence, tag("details", summary, listed))


def _row(row: LatencyRow, view: TableView) -> list[object]:
    shape = tag("span", describe(view.architecture(row)))
    return [
        tag("span", shape, tag("span", row.architecture, class_="basis")),
        _ROLE_WORDS[view.table.roles[row.architecture]],
        row.workload,
        ms_words(row.latency_ms.p50, half_interval_ms(row)),
        str(len(row.rounds)),
        "throttled" if row.throttled else "",
    ]
