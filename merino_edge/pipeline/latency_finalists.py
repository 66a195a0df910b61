"""The finalists of a measured search on the page of its table: foretold, measured, and the verdict.

The one idea: budget, prediction and measurement stand in one row, both with their intervals, so
that the verdict can be checked by eye. A mock's word is never called a measurement.
"""

from merino_edge.formats.architecture import describe
from merino_edge.formats.latency_table import MEASURED
from merino_edge.pipeline.confirmed import Confirmed
from merino_edge.pipeline.latency_view import TableView, ms_words
from merino_edge.pipeline.markup import Markup, section, table, tag
from merino_edge.pipeline.quantities import share
from merino_edge.pipeline.scatter import Cross


def finalists(view: TableView) -> Markup:
    """The budget and what was found under it; nothing where no budget was given."""
    if view.budget_ms is None:
        return Markup()
    title = "The budget and the finalists"
    budget = f"The budget is {ms_words(view.budget_ms)} for one token. "
    if not view.finalists:
        return section(title, budget + "No finalist was built and timed.", _reach_note(view))
    sentence = budget + (
        "Each finalist was chosen by its prediction, then built with random weights and timed here "
        "beside the table’s anchor. It passes if the upper end of what was measured keeps the "
        "budget; later ones were chosen by a model that the earlier ones corrected."
    )
    if view.finalists[0].provenance != MEASURED:
        sentence = budget + "Nothing was timed: a mock stands for the device and says what it says."
    said = "measured" if view.finalists[0].provenance == MEASURED else "a mock says"
    header = ("finalist", "verdict", "budget", "predicted", said, "unused")
    rows = [_row(each) for each in view.finalists]
    return section(title, sentence, table(header, rows, 2), _reach_note(view))


def _reach_note(view: TableView) -> Markup:
    """Where the budget lies outside what was fitted, a sentence that says so."""
    if view.budget_ms is None or view.model is None or view.model.decode is None:
        return Markup()
    far = view.model.beyond_reach(view.budget_ms)
    return tag("p", f"The budget: {far}", class_="note") if far else Markup()


def _row(found: Confirmed) -> list[object]:
    a = found.result.best.architecture
    half_ms = found.predicted_high_ms - found.predicted_ms
    return [
        tag("span", tag("code", a.arch_id), tag("span", describe(a), class_="reason")),
        tag("span", verdict(found), class_="strong"),
        ms_words(found.limit_ms),
        ms_words(found.predicted_ms, half_ms),
        ms_words(found.measured.ms, found.measured.half_ms),
        share(found.unused).replace("-", "−"),
    ]


def verdict(found: Confirmed) -> str:
    """PASS or FAIL."""
    return "PASS" if found.passed else "FAIL"


def crosses_of(view: TableView) -> list[Cross]:
    """Where the finalists stand: measured to the right, predicted upwards."""
    return [_cross(each) for each in view.finalists]


def _cross(found: Confirmed) -> Cross:
    ms, half = found.measured.ms, found.measured.half_ms
    foretold, high = found.predicted_ms, found.predicted_high_ms
    said = "measured" if found.provenance == MEASURED else "a mock says"
    return Cross(
        x=ms,
        y=foretold,
        x_ends=(max(ms - half, ms / 10.0), ms + half),
        y_ends=(foretold * foretold / high, high),
        title=(
            f"finalist {describe(found.result.best.architecture)}: {verdict(found)}\n"
            f"{said} {ms_words(ms, half)}, predicted {ms_words(foretold, high - foretold)}"
        ),
    )
