"""Beside what a finalist is timed: the token, and the decoder of the table that is most like it.

The one idea: what disturbs a machine disturbs decoders by how they lie in its caches, so a decoder
is timed beside its like. Timed beside the anchor, of middling size, what was measured twice within
an hour differed by 5 % on a virtual machine (standard deviation of 30), more than the table errs.
"""

import math

from merino_edge.core.counting import n_params, n_params_executed
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.latency_table import DECODE, ROLES, LatencyRow, LatencyTable, Workload
from merino_edge.formats.probes import BURST


def last_token(table: LatencyTable, context_len: int) -> Workload:
    """The token that a limit is about: at the end of a context, if the table goes so far."""
    return Workload(DECODE, min(context_len, table.setting.context_len - BURST // 2))


def closest_row(table: LatencyTable, architecture: Architecture, load: Workload) -> LatencyRow:
    """The row of tokens whose decoder is most like another: as much to read, and to compute."""

    def unlike(row: LatencyRow) -> tuple[float, int]:
        other = table.architectures[row.architecture]
        sizes = [
            abs(math.log(size(architecture) / size(other)))
            for size in (n_params, n_params_executed)
        ]
        return sum(sizes), abs(Workload.of_label(row.workload).length - load.length)

    return min((row for role in ROLES for row in table.rows_of(role, load.phase)), key=unlike)
