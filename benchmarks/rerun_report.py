"""What a rerun took, stage by stage, and what every report of a stage has to say of itself.

The one idea: expected minutes are a guess until a machine has spent them; ``rerun.json`` holds what
was spent, and under which conditions. A stage that runs right behind another one finds that one in
its load average, so beside the load stands what *others* used of the cores while the stage ran.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from merino_edge.cli.output import table

SCHEMA = "merino-edge.rerun/1"
# What a report must carry -> the names that it has in the reports of scripts and of profile.
CONDITIONS = {
    "date": ("date", "begun"),
    "machine": ("machine", "device"),
    "versions": ("versions", "made_by"),
    "load before": ("load", "load_before"),
}


class Row(NamedTuple):
    """One stage that was measured.

    Attributes:
        stage: Its name.
        result: Its file below ``results/``; "" for an input of others.
        begun: When its last piece began, in UTC.
        seconds: That it took, all pieces together if it was interrupted.
        load_before: Load average of the minute before.
        others_share: Of all cores' time, what other processes used meanwhile.
        steal_share: What the hypervisor took, likewise.
        cpu: The processor.
        n_cores: That could be used.
    """

    stage: str
    result: str
    begun: str
    seconds: float
    load_before: float
    others_share: float
    steal_share: float
    cpu: str
    n_cores: int


class Report(NamedTuple):
    """The last measurement of every stage, in the order of the stages."""

    rows: list[Row]


def merged(before: Sequence[Row], now: Sequence[Row], order: Sequence[str]) -> Report:
    """Rows of now, and of before where a stage was not measured again."""
    rows = {row.stage: row for row in (*before, *now)}
    return Report([rows[name] for name in order if name in rows])


def lacking(report: Any) -> list[str]:
    """Which conditions a stage's report does not tell."""
    inside = [report.get(name) for name in ("conditions", "provenance")]
    told = {key for each in (report, *inside) if isinstance(each, dict) for key in each}
    return [what for what, names in CONDITIONS.items() if not told.intersection(names)]


def sections(report: Report) -> dict[str, str]:
    """Name of a mark -> its table."""
    return {"rerun": markdown(report)}


def markdown(report: Report) -> str:
    """A row for each stage, and the sum."""
    if not report.rows:
        return "not run yet: make bench\n"
    head = ("stage", "minutes", "load before", "others", "machine", "date", "result")
    rows = [
        (
            row.stage,
            f"{row.seconds / 60:.1f}",
            f"{row.load_before:.2f}",
            f"{row.others_share:.0%}",
            f"{row.cpu}, {row.n_cores} cores",
            row.begun[:10],
            row.result or "(input)",
        )
        for row in report.rows
    ]
    total = sum(row.seconds for row in report.rows) / 60
    return table(head, [*rows, ("all", f"{total:.1f}", "", "", "", "", "")])
