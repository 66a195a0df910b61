"""Tables of latencies put together, where that is allowed.

The one idea: a merged table is a table of one setting like any other, so only what was measured
alike goes together, and what a validation said of the parts is not said of the whole.
"""

from typing import List, Sequence

from merino_edge.errors import UsageError
from merino_edge.formats.latency_table import LatencyTable, Setting


def differences(first: LatencyTable, second: LatencyTable) -> List[str]:
    """What makes two tables unlike, as sentences; empty if they may be merged."""
    found = []
    pairs = [
        ("provenance", first.provenance, second.provenance),
        ("device", first.device.model, second.device.model),
        ("processor", first.device.cpu, second.device.cpu),
        ("JetPack", first.device.jetpack, second.device.jetpack),
    ]
    pairs += [
        (name.replace("_", " "), getattr(first.setting, name), getattr(second.setting, name))
        for name in Setting._fields
        if name != "target"
    ]
    for name, one, other in pairs:
        if one != other:
            found.append("{}: {} and {}".format(name, one, other))
    return found


def merge(tables: Sequence[LatencyTable], unlike: bool = False) -> LatencyTable:
    """One table with the rows of all; of a row that several have, the first one's counts.

    Args:
        tables: At least one.
        unlike: Merge even what was measured under different settings.

    Raises:
        UsageError: The tables differ in device or setting; says in what.
    """
    first = tables[0]
    for other in tables[1:]:
        found = differences(first, other)
        if found and not unlike:
            raise UsageError(
                "the tables are of different settings: {}.".format("; ".join(found)),
                note="times of one say nothing about the other.",
                hint="measure both alike, or say --unlike if you know better.",
            )
    last_first = tables[::-1]
    rows = {(row.architecture, row.workload): row for each in last_first for row in each.rows}
    roles = {name: role for each in last_first for name, role in each.roles.items()}
    known = {name: a for each in last_first for name, a in each.architectures.items()}
    return first.replace(
        rows=[rows[key] for key in sorted(rows)],
        roles=roles,
        architectures=known,
        validation={},
    )
