"""The report of a search: one page for people, two files of data for whoever wants to plot again.

The one idea: the page stands alone, so it can be mailed, archived and opened anywhere: no script,
nothing from the network. It is a function of the result, so the same result gives the same bytes.
Beside it lie ``trials.jsonl``, every survivor, and ``pareto.csv``, the front.
"""

import csv
import errno
import io
import json
import os
from collections.abc import Iterable
from typing import Any

from merino_edge.core.cost import CostReport
from merino_edge.formats.architecture import Architecture, describe
from merino_edge.formats.jsonio import write_bytes_atomic
from merino_edge.pipeline import search_caveats, search_contest, search_winner
from merino_edge.pipeline.report_style import page
from merino_edge.search.result import FrontPoint, SearchResult, Trial

TRIALS, PARETO = "trials.jsonl", "pareto.csv"
_SECTIONS = (
    search_winner.summary,
    search_winner.architecture,
    search_winner.costs,
    search_winner.shares,
    search_contest.convergence,
    search_contest.front,
    search_contest.neighbours,
    search_contest.lineage,
    search_contest.runners_up,
    search_caveats.caveats,
)
_POINT_COLUMNS = ("axis", "limit", "cost", "total", "gap", "arch_id", "description")


def write_report(path: str, result: SearchResult) -> tuple[str, ...]:
    """Write the page, and the data beside it.

    Each file is written whole or not at all. The page comes last, so who sees it finds its data.

    Args:
        path: Of the HTML file; ``trials.jsonl`` and ``pareto.csv`` go into its folder.
        result: Of a search. One that was read from a file has no trials.

    Returns:
        The paths: page, trials, front.

    Raises:
        OSError: The folder is missing or cannot be written, or a folder stands where a file goes.
    """
    folder = os.path.dirname(os.path.abspath(path))
    trials, pareto = (os.path.join(folder, name) for name in (TRIALS, PARETO))
    texts = {trials: trials_text(result), pareto: pareto_text(result), path: report_html(result)}
    _refuse_what_cannot_be_written(folder, texts)
    for name, text in texts.items():
        write_bytes_atomic(name, text.encode("utf-8"))
    return path, trials, pareto


def report_html(result: SearchResult) -> str:
    """The page."""
    title = f"Search report: {result.best.architecture.arch_id}"
    return page(title, *(section(result) for section in _SECTIONS))


def trials_text(result: SearchResult) -> str:
    """A JSON object a line for each survivor."""
    lines = [json.dumps(_trial_record(trial), allow_nan=False) for trial in result.trials]
    return "".join(line + "\n" for line in lines)


def _trial_record(trial: Trial) -> dict[str, Any]:
    a, score = trial.candidate.architecture, trial.candidate.entropy
    return {
        "seed": trial.seed,
        "number": trial.number,
        "parent": trial.parent,
        "generation": trial.generation,
        "arch_id": a.arch_id,
        "blocks": _shapes(a),
        "total": score.total,
        "raw": score.raw,
        "gamma": score.gamma,
        "effectiveness": score.effectiveness,
        **trial.candidate.cost._asdict(),
        "violations": [violation._asdict() for violation in trial.candidate.violations],
    }


def _shapes(a: Architecture) -> list[tuple[int, int, int, int]]:
    return [(block.d_model, block.n_head, block.d_ff, block.depth) for block in a.blocks]


def pareto_text(result: SearchResult) -> str:
    """CSV: a header, and a row for each point of the front; only the header without one."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*_POINT_COLUMNS, *CostReport._fields])
    if result.front is not None:
        writer.writerows(_point_row(point, result.front.axis) for point in result.front.points)
    return stream.getvalue()


def _point_row(point: FrontPoint, axis: str) -> list[Any]:
    candidate = point.candidate
    a, cost = candidate.architecture, candidate.cost
    own = [axis, point.limit, getattr(cost, axis), candidate.entropy.total, point.gap]
    return [*own, a.arch_id, describe(a), *cost]


def _refuse_what_cannot_be_written(folder: str, names: Iterable[str]) -> None:
    """Before the first file is touched, so that nothing is left of a report that cannot be."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "there is no such folder for the report:", folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "the report's folder cannot be written:", folder)
    for name in names:
        if os.path.isdir(name):
            raise IsADirectoryError(
                errno.EISDIR, "the report needs a file where a folder is:", name
            )
