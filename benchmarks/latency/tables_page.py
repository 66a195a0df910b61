"""How well latency tables foretell decoders, as tables of the page, one row a latency table.

The one idea: a latency table has its own validation in it, so nothing is measured or fitted here;
all ``table-*.json`` of the results are read, and laid side by side.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from reports import results_folder

from merino_edge.cli.output import table as markdown_table
from merino_edge.formats.latency_table import (
    PHASES,
    LatencyTable,
    PhaseValidation,
    read_table,
)

HEADER = (
    "", "decoders", "mean error", "worst", "within 5 %", "within 10 %", "Kendall's tau",
    "inside the 90 % interval", "bias",
)  # fmt: skip


def measured_tables() -> dict[str, LatencyTable]:
    """Every table of the folder, by its name in words."""
    tables = [
        read_table(str(path)) for path in sorted(results_folder(__file__).glob("table-*.json"))
    ]
    return {f"{each.space}, {each.setting.backend} {each.setting.precision}, "
            f"{each.setting.threads} thread" + ("s" if each.setting.threads > 1 else ""): each
            for each in tables}  # fmt: skip


def errors(tables: dict[str, LatencyTable]) -> str:
    """How well decoders that were not fitted were foretold, table by table."""
    rows = [
        (f"{name}: {phase}", *_shares(table.validation[phase]))
        for name, table in tables.items()
        for phase in PHASES
        if phase in table.validation
    ]
    return markdown_table(HEADER, rows)


def others(tables: dict[str, LatencyTable]) -> str:
    """The same for simpler predictors, which were fitted to the same decoders."""
    found = [(n, p, t.validation[p]) for n, t in tables.items() for p in PHASES if t.validation]
    names = list(found[0][2].others)
    rows = [
        (f"{name}: {phase}", f"{100 * each.mape:.1f} %")
        + tuple(f"{100 * each.others[other]:.1f} %" for other in names)
        for name, phase, each in found
    ]
    return markdown_table(("mean error", "this model", *names), rows)


def conditions(tables: dict[str, LatencyTable]) -> str:
    """What each table was measured under."""
    rows = []
    for name, table in tables.items():
        n_rounds = sum(len(row.rounds) for row in table.rows) / len(table.rows)
        found = table.conditions
        rows.append(
            (
                name,
                table.device.model,
                table.begun[:10],
                f"{len(table.architectures)}",
                f"{n_rounds:.1f}",
                f"{found.load_before}",
                "-" if found.others_cpu_share is None else f"{100 * found.others_cpu_share:.0f} %",
            )
        )
    head = ("", "device", "date", "decoders", "rounds", "load before", "used by others")
    return markdown_table(head, rows)


def _shares(found: PhaseValidation) -> tuple[str, ...]:
    return (
        str(found.n_architectures),
        *(f"{100 * x:.1f} %" for x in (found.mape, found.worst, found.within_5, found.within_10)),
        f"{found.kendall_tau:.3f}",
        f"{100 * found.coverage:.0f} %",
        f"{100 * found.bias:+.1f} %",
    )


def tables() -> dict[str, str]:
    """Name of a mark -> what stands there."""
    measured = measured_tables()
    return {
        "conditions": conditions(measured),
        "errors": errors(measured),
        "others": others(measured),
    }
