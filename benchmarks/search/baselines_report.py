"""What `baselines.py` found: the records of its JSON file, and the same as Markdown tables.

It words figures and measures none. Where a time was predicted by proportion, it says so.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from reports import Provenance, budget_name, headline

from merino_edge.cli.output import human_count, table
from merino_edge.core.budget import Budget

SCHEMA = "merino-edge.baselines/1"


class Setting(NamedTuple):
    """What is compared: a space under a budget, and how many candidates are few."""

    space: str
    budget: Budget
    few: int


class Effort(NamedTuple):
    """How candidates are tried, the same for all objectives.

    Attributes:
        seed: Of all searches.
        few_population: Survivors of a generation while candidates are few.
        many: Candidates of a full search.
        many_population: Survivors of a generation there.
    """

    seed: int
    few_population: int
    many: int
    many_population: int


class Winner(NamedTuple):
    """What a search chose.

    Attributes:
        arch_id: Of the architecture.
        shape: In words.
        n_layers: As applied.
        n_params: Stored.
        prefill_flops: Of 1024 tokens, body only.
        values: What every objective thinks of it; DSS and SynFlow are logarithms.
    """

    arch_id: str
    shape: str
    n_layers: int
    n_params: int
    prefill_flops: int
    values: dict[str, float]


class Timing(NamedTuple):
    """How long a search took.

    Attributes:
        candidates: That it scored.
        seconds: Of wall time, all of the search.
        cpu_seconds: Of all threads; None for a prediction.
        measured: False for a prediction by proportion from the few.
        times_entropy: As many times the seconds of the entropy's search.
    """

    candidates: int
    seconds: float
    cpu_seconds: float | None
    measured: bool
    times_entropy: float = 1.0


class Row(NamedTuple):
    """One objective; ``many_winner`` is None where the long search was not run."""

    objective: str
    few: Timing
    few_winner: Winner
    many: Timing
    many_winner: Winner | None


class Comparison(NamedTuple):
    """All objectives in one setting, the entropy first."""

    setting: Setting
    rows: tuple[Row, ...]


class Report(NamedTuple):
    """What the JSON file holds."""

    provenance: Provenance
    torch_threads: int
    effort: Effort
    comparisons: tuple[Comparison, ...]


def markdown(report: Report) -> str:
    """All tables, for a page."""
    effort = report.effort
    parts = [
        f"{headline(report.provenance)}. Seed {effort.seed}; population {effort.few_population} "
        f"for few candidates, {effort.many_population} for {effort.many:,}. An entropy of 0: too "
        "deep for its width. DSS and SynFlow are logarithms."
    ]
    for setting, rows in report.comparisons:
        parts.append(f"### Space `{setting.space}`, {budget_name(setting.budget)}")
        parts += [_timing_table(rows), f"Best of {setting.few:,}:"]
        parts.append(_winner_table([(row.objective, row.few_winner) for row in rows]))
        found = [(row.objective, row.many_winner) for row in rows if row.many_winner is not None]
        parts += [f"Best of {effort.many:,}:", _winner_table(found)]
    return "\n\n".join(part.rstrip("\n") for part in parts)


def sections(report: Report) -> dict[str, str]:
    """Name of a mark -> what stands there: the first setting, and what its long searches find."""
    setting, rows = report.comparisons[0]
    space = f"Space `{setting.space}`, {budget_name(setting.budget)}"
    found = [(row.objective, row.many_winner) for row in rows if row.many_winner is not None]
    return {
        "baselines_times": f"{space}; {headline(report.provenance)}\n\n{_timing_table(rows)}",
        "baselines_winners": _winner_table(found),
    }


def _timing_table(rows: Sequence[Row]) -> str:
    few, many = (f"{timing.candidates:,} candidates" for timing in (rows[0].few, rows[0].many))
    header = ("maximises", few, "each", "× entropy's", many, "× entropy's")
    return table(
        header,
        [
            (
                row.objective,
                _duration(row.few.seconds),
                f"{_number(1e3 * row.few.seconds / row.few.candidates)} ms",
                _number(row.few.times_entropy),
                _duration(row.many.seconds)
                + ("" if row.many.measured else ", predicted by proportion"),
                _number(row.many.times_entropy),
            )
            for row in rows
        ],
    )


def _winner_table(winners: Sequence[tuple[str, Winner]]) -> str:
    counts = ("params", "decoder_params", "flops")
    header = ("maximises", "shape", "layers", *counts, "entropy", "dss", "synflow")
    return table(
        header,
        [
            (
                name,
                winner.shape.replace("|", "/"),  # a bar would end the cell
                str(winner.n_layers),
                *(human_count(winner.values[count]) for count in counts),
                f"{winner.values['entropy']:,.0f}",
                f"{winner.values['dss']:.1f}",
                f"{winner.values['synflow']:.1f}",
            )
            for name, winner in winners
        ],
    )


def _duration(seconds: float) -> str:
    if seconds >= 7200.0:
        return f"{seconds / 3600.0:,.3g} h"
    return f"{_number(seconds)} s"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.3g}"
