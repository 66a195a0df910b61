"""What ``confirm_study.py`` found: the records of its JSON file, and the same as a table.

It words figures and measures none, so a page can be made where there is no torch.
"""

import sys
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from reports import Provenance

from merino_edge.cli.output import table

SCHEMA = "merino-edge.confirm-study/1"


class Trial(NamedTuple):
    """One budget with one seed.

    Attributes:
        budget_ms: Of a token at the end of the context.
        seed: Of the search.
        architecture: The confirmed one, in words; empty if none held.
        n_finalists: That were built and timed.
        predicted_ms: By the model that chose it.
        first_predicted_ms: Of the first finalist, by the table alone,
        first_measured_ms: and what that took.
        confirmed_ms: What the confirmed one took when it was confirmed,
        again_ms: and later, when it counts.
        again_half_ms: Half the 95 % interval of that.

    Without a finalist that held, those of the confirmed one are None.
    """

    budget_ms: float
    seed: int
    architecture: str
    n_finalists: int
    predicted_ms: float | None
    first_predicted_ms: float
    first_measured_ms: float
    confirmed_ms: float | None
    again_ms: float | None
    again_half_ms: float | None


class Report(NamedTuple):
    """All trials, and what they came to.

    Attributes:
        provenance: Date, machine, versions.
        table: In words.
        most: Finalists that a search may time.
        n_under: Confirmed models that kept their budget when they were timed again.
        worst: The largest time over its budget.
        mean_slack: Mean of what they left unused, as a share of the budget.
        trials: By budget and seed.
    """

    provenance: Provenance
    table: str
    most: int
    n_under: int
    worst: float
    mean_slack: float
    trials: list[Trial]


def markdown(report: Report) -> str:
    """One row a trial, and a line that counts."""
    head = ("budget, ms", "seed", "timed", "predicted", "confirmed", "again", "slack", "model")
    rows = [_row(trial) for trial in report.trials]
    return (
        f"{report.table}; {report.provenance.date}; load before {report.provenance.load}\n\n"
        f"**{report.n_under} of {len(report.trials)} confirmed models keep their budget when they "
        f"are timed again; the worst takes {report.worst:.3f} x its budget; the mean slack is "
        f"{100 * report.mean_slack:.1f} %.**\n\n{table(head, rows)}"
    )


def _row(t: Trial) -> tuple[str, ...]:
    asked = (f"{t.budget_ms:.3f}", str(t.seed), str(t.n_finalists))
    if t.again_ms is None:
        return (*asked, "-", "-", "-", "-", "none held")
    return (
        *asked,
        f"{t.predicted_ms:.3f}",
        f"{t.confirmed_ms:.3f}",
        f"{t.again_ms:.3f} ± {t.again_half_ms:.3f}",
        f"{100 * (1 - t.again_ms / t.budget_ms):.1f} %",
        t.architecture,
    )
