"""Whether to believe the model of a latency table: its predictions beside what the rows say.

The one idea: a prediction is judged by decoders that it never saw. So fitted and held-out rows are
told apart in the pictures, the interval that the model states is drawn around the diagonal, and
simple predictors stand beside it on the same rows.
"""

from math import isfinite

from merino_edge.core.latency_check import foretell
from merino_edge.core.table_latency import LatencyFit
from merino_edge.formats.architecture import describe
from merino_edge.formats.latency_table import DECODE, FIT, HELD_OUT, LatencyRow, PhaseValidation
from merino_edge.pipeline.bars import used_bar
from merino_edge.pipeline.latency_finalists import crosses_of
from merino_edge.pipeline.latency_view import CALLS, TableView, ms_words, signed
from merino_edge.pipeline.markup import Markup, join, section, table, tag
from merino_edge.pipeline.plots import Axis, axis
from merino_edge.pipeline.quantities import share
from merino_edge.pipeline.scatter import (
    Cross,
    Crosses,
    Dot,
    Dots,
    Limit,
    diagonal_band,
    level_band,
    scatter_plot,
)

_ROOM = 1.12  # beyond the least and the most, so that no dot lies on the frame
_LEAST_ERROR = 0.01  # a plot of errors reaches at least so far
_ROLE_WORDS = {FIT: "fitted", HELD_OUT: "held out"}


def prediction(view: TableView) -> Markup:
    """Predictions against rows, and their errors."""
    title = "Prediction against measurement" if view.is_measured else "Prediction against the table"
    if not view.fits:
        return section(title, view.missing or "The table has no rows.")
    sentence = (
        "A dot is one decoder at one length. Filled dots were held out: the model had not seen "
        "these decoders. Rings were fitted, so that they lie close proves little. The band is the "
        "interval that the model states; point at a dot to see which decoder it is. Rows that were "
        "taken under throttling are left out."
    )
    return section(title, sentence, *(_phase(fit, view) for fit in view.fits))


def _phase(fit: LatencyFit, view: TableView) -> Markup:
    groups = {role: _rows(fit, role, view) for role in (FIT, HELD_OUT)}
    heading = tag("h3", f"{fit.phase}: {CALLS[fit.phase]}")
    return join([heading, _against(fit, groups, view), _errors(fit, groups, view)])


_Foretold = tuple[LatencyRow, float, float]  # a row, its milliseconds, and those foretold


def _rows(fit: LatencyFit, role: str, view: TableView) -> list[_Foretold]:
    rows = view.table.rows_of(role, fit.phase)
    foretold = foretell(fit, rows, view.table).tolist() if rows else []
    return [(row, row.latency_ms.p50, ms) for row, ms in zip(rows, foretold, strict=True)]


def _against(fit: LatencyFit, groups: dict[str, list[_Foretold]], view: TableView) -> Markup:
    crosses = crosses_of(view) if fit.phase == DECODE else []
    limit_ms = view.budget_ms if fit.phase == DECODE else None
    both = _axis_of_both(groups, crosses, limit_ms)
    band = diagonal_band(
        f"stated {100 * fit.level:.0f} % interval: × or ÷ {fit.spread:.3f}",
        "both are equal",
        both,
        fit.spread,
    )
    return scatter_plot(
        f"Milliseconds of {CALLS[fit.phase]}: predicted by the model, against {view.row_word}",
        both._replace(label=f"{view.row_word}, ms, logarithmic"),
        both._replace(label="predicted by the model, ms, logarithmic"),
        [_dots(role, rows, view, is_error=False) for role, rows in groups.items()],
        band,
        Crosses("finalists, with both intervals", crosses) if crosses else None,
        Limit(f"budget {ms_words(limit_ms)}", limit_ms) if limit_ms is not None else None,
    )


def _axis_of_both(
    groups: dict[str, list[_Foretold]], crosses: list[Cross], limit_ms: float | None
) -> Axis:
    values = [ms for rows in groups.values() for _, *both in rows for ms in both]
    values += [end for cross in crosses for end in (*cross.x_ends, *cross.y_ends)]
    values += [] if limit_ms is None else [limit_ms]
    return axis("ms", [min(values) / _ROOM, max(values) * _ROOM], _plain, is_log=True)


def _errors(fit: LatencyFit, groups: dict[str, list[_Foretold]], view: TableView) -> Markup:
    """The same dots from nearer: what is too much or too little, in percent."""
    all_rows = [each for rows in groups.values() for each in rows]
    ms = [row_ms for _, row_ms, _ in all_rows]
    ends = 1.0 / fit.spread - 1.0, fit.spread - 1.0
    errors = [foretold / row_ms - 1.0 for _, row_ms, foretold in all_rows]
    x = axis(
        f"{view.row_word}, ms, logarithmic", [min(ms) / _ROOM, max(ms) * _ROOM], _plain, is_log=True
    )
    y = axis(
        "predicted too much (above) or too little",
        [*errors, *ends, -_LEAST_ERROR, _LEAST_ERROR],
        lambda value: f"{100.0 * value:+.3g} %".replace("-", "−").replace("+0 %", "0 %"),
    )
    band = level_band(
        f"stated interval: {signed(ends[0])} to {signed(ends[1])}", "no error", x, ends
    )
    dots = [_dots(role, rows, view, is_error=True) for role, rows in groups.items()]
    return scatter_plot(
        f"Errors of the predictions of {CALLS[fit.phase]}, in percent", x, y, dots, band
    )


def _dots(role: str, rows: list[_Foretold], view: TableView, is_error: bool) -> Dots:
    dots = [
        Dot(ms, foretold / ms - 1.0 if is_error else foretold, _dot_title(row, ms, foretold, view))
        for row, ms, foretold in rows
    ]
    return Dots(f"{_ROLE_WORDS[role]}: {len(rows)} rows", dots, is_hollow=role == FIT)


def _dot_title(row: LatencyRow, ms: float, foretold: float, view: TableView) -> str:
    return (
        f"{describe(view.architecture(row))}\n{row.workload}, {row.architecture}\n"
        f"{view.row_word} {ms_words(ms)}, predicted by the model {ms_words(foretold)} "
        f"({signed(foretold / ms - 1.0)})"
    )


def _plain(value: float) -> str:
    return f"{value:g}"


def validation(view: TableView) -> Markup:
    """How wrong the model was where it could be."""
    title, found = "How far to trust it", view.table.validation
    if not found:
        return section(
            title, "Not judged: no decoders were held out, or too few were timed to fit."
        )
    sentence = (
        "The model was fitted to some decoders and then asked about others, which were timed too. "
        "An error is a share of what was measured; the interval covers well if the share of rows "
        "inside is near the one that it states."
    )
    if not view.is_measured:
        sentence = (
            "The model was fitted to some decoders and then asked about others. Both are "
            "predictions of a formula: this judges the fit of the formula, not of any device."
        )
    header = (
        "phase", "decoders", "rows", "mean error (MAPE)", "worst", "within 5 %", "within 10 %",
        "rank correlation (Kendall’s tau)", "inside the interval", "bias",
    )  # fmt: skip
    rows = [_validation_row(phase, judged) for phase, judged in found.items()]
    beside = [_simpler(phase, judged) for phase, judged in found.items()]
    return section(title, sentence, table(header, rows), *beside)


def _validation_row(phase: str, judged: PhaseValidation) -> list[object]:
    stated = tag("span", f"stated {100 * judged.level:.0f} %", class_="basis")
    tau = judged.kendall_tau
    return [
        phase,
        str(judged.n_architectures),
        str(judged.n_rows),
        *(share(value) for value in (judged.mape, judged.worst, judged.within_5, judged.within_10)),
        f"{tau:.3f}" if isfinite(tau) else "not known",
        tag("span", share(judged.coverage), stated),
        signed(judged.bias),
    ]


def _simpler(phase: str, judged: PhaseValidation) -> Markup:
    """The model and what anyone would try first, on the same rows."""
    errors = {"this table’s model": judged.mape, **judged.others}
    worst = max(errors.values()) or 1.0
    rows = [
        [name, share(error), used_bar(f"{name}: mean error {share(error)}", error / worst)]
        for name, error in errors.items()
    ]
    note = "Mean error of simpler predictors, fitted to the same rows; a short bar is good."
    heading = tag("h3", f"{phase}, beside simpler predictors")
    return join([heading, tag("p", note, class_="note"), table(("by", "mean error", ""), rows)])
