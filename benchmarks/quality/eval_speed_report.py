"""What ``eval_speed.py`` found: the records of its JSON file, and the same as tables.

It words figures and measures none, so a page can be made where there is no torch. Seconds are those
of each round; rates and ratios are worked out here.
"""

import statistics
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from reports import Provenance

from merino_edge.cli.output import table
from merino_edge.formats.measurement import Conditions

SCHEMA = "merino-edge.eval-speed/1"
HEADER = ("task", "by", "items/s", "x HFLM alone", "x HFLM's best", "largest difference", "choices")


class Way(NamedTuple):
    """One way of answering one task.

    Attributes:
        task: Its name.
        by: What answered.
        n_items: Questions.
        seconds: Of each round.
        largest_difference: From HFLM one by one, in nats of a request.
        n_other_choices: Questions where another choice is the likeliest.
    """

    task: str
    by: str
    n_items: int
    seconds: list[float]
    largest_difference: float
    n_other_choices: int

    @property
    def items_per_s(self) -> float:
        """By the median round."""
        return self.n_items / statistics.median(self.seconds)


class Tokens(NamedTuple):
    """What sharing can give.

    Attributes:
        task: Its name.
        alone: Tokens when each choice is read with its question.
        in_trees: Tokens when what is common is read once.
        scored: Tokens that are scored.
    """

    task: str
    alone: int
    in_trees: int
    scored: int


class Report(NamedTuple):
    """Nothing is drawn at random.

    Attributes:
        provenance: Date, machine, versions.
        conditions: How quiet it was.
        model: Name of the checkpoint.
        threads: Of every way.
        ways: All figures.
        tokens: By task.
    """

    provenance: Provenance
    conditions: Conditions
    model: str
    threads: int
    ways: list[Way]
    tokens: list[Tokens]


def markdown(report: Report) -> str:
    """The report as tables."""
    quiet = report.conditions.others_cpu_share
    share = "" if quiet is None else f"; others used {quiet:.0%} of the CPU"
    return (
        f"{report.model}, {report.threads} threads; {report.provenance.machine.cpu}, "
        f"{report.provenance.date}{share}\n\n{table(HEADER, _rows(report.ways))}\n"
        + table(
            ("task", "tokens alone", "in trees", "scored"),
            [(t.task, str(t.alone), str(t.in_trees), str(t.scored)) for t in report.tokens],
        )
    )


def _rows(ways: list[Way]) -> list[tuple[str, ...]]:
    rows = []
    for task in dict.fromkeys(way.task for way in ways):
        rows += _task_rows([way for way in ways if way.task == task])
    names = list(dict.fromkeys(way.by for way in ways))
    together = [_together([way for way in ways if way.by == name]) for name in names]
    return rows + _task_rows(together)


def _together(ways: list[Way]) -> Way:
    """All tasks as one: round by round, their seconds added."""
    seconds = [sum(each) for each in zip(*(way.seconds for way in ways), strict=True)]
    return Way(
        "all",
        ways[0].by,
        sum(way.n_items for way in ways),
        seconds,
        max(way.largest_difference for way in ways),
        sum(way.n_other_choices for way in ways),
    )


def _task_rows(ways: list[Way]) -> list[tuple[str, ...]]:
    theirs = [way for way in ways if way.by.startswith("HFLM")]
    alone, best = theirs[0].items_per_s, max(way.items_per_s for way in theirs)
    return [
        (
            way.task,
            way.by,
            f"{way.items_per_s:.2f}",
            f"{way.items_per_s / alone:.2f}",
            f"{way.items_per_s / best:.2f}",
            f"{way.largest_difference:.1e}",
            "the same" if not way.n_other_choices else f"other: {way.n_other_choices}",
        )
        for way in ways
    ]
