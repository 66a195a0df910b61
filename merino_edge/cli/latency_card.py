"""A table of latencies on one screen: what it is, and how far it can be believed.

It only words what a ``LatencyTable`` holds; a table that was predicted is called so.
"""

import sys
from typing import Any, List

from merino_edge.cli.output import print_table
from merino_edge.formats.jsonio import encode
from merino_edge.formats.latency_table import LatencyTable

HEADER = ("", "decoders", "mean error", "worst", "within 5 %", "within 10 %", "rank tau", "inside")


def card(table: LatencyTable) -> List[str]:
    """What the table is, for people."""
    n_rounds = sum(len(row.rounds) for row in table.rows) / max(1, len(table.rows))
    return [
        "{}: {} rows of {} decoders, {:.1f} rounds each".format(
            table.provenance, len(table.rows), len(table.architectures), n_rounds
        ),
        "on {}".format(table.name),
        "by {}; context {}, space {}, seed {}".format(
            table.setting.engine, table.setting.context_len, table.space, table.seed
        ),
    ]


def print_validation(table: LatencyTable) -> None:
    """How well decoders that were not fitted were foretold, and simpler predictors beside."""
    if not table.validation:
        sys.stdout.write("not judged: the workstation does that when it reads the table\n")
        return
    rows = []
    for phase, v in table.validation.items():
        shares = [v.mape, v.worst, v.within_5, v.within_10]
        rows.append(
            [phase, str(v.n_architectures)]
            + ["{:.1f} %".format(100 * share) for share in shares]
            + ["{:.3f}".format(v.kendall_tau)]
            + ["{:.0f} % (stated {:.0f} %)".format(100 * v.coverage, 100 * v.level)]
        )
    sys.stdout.write("\ndecoders that were not fitted, foretold and then {}\n".format(
        table.provenance))  # fmt: skip
    print_table(HEADER, rows)
    others = table.validation["decode"].others if "decode" in table.validation else {}
    if others:
        words = ["{} {:.0f} %".format(name, 100 * error) for name, error in others.items()]
        sys.stdout.write("mean error of simpler predictors of a token: {}\n".format(
            ", ".join(words)))  # fmt: skip


def summary_of(table: LatencyTable) -> Any:
    """What the table is, for scripts: everything but rows and architectures."""
    document = encode(table)
    for name in ("rows", "architectures", "roles"):
        document["n_" + name] = len(document.pop(name))
    return document


def table_words(table: Any) -> List[str]:
    """What a table of latencies is worth: where it was measured, and how it was judged."""
    lines = ["latencies {} on {}".format(table.provenance, table.name)]
    if not table.validation:
        lines.append("the table was not judged by decoders that were held out")
    for phase, found in table.validation.items():
        lines.append(
            "  {}: on {} decoders that were not fitted, mean error {:.1f} %, {:.0f} % within 10 %, "
            "rank tau {:.3f}; {:.0f} % inside the stated {:.0f} % interval".format(
                phase,
                found.n_architectures,
                100 * found.mape,
                100 * found.within_10,
                found.kendall_tau,
                100 * found.coverage,
                100 * found.level,
            )
        )
    return lines
