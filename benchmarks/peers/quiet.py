"""Was the machine ours alone? Load, what others used, what the hypervisor took, for every round.

The one idea: all CPU time that is neither idle, nor ours, nor our contestants', is somebody else's;
and *steal* is what another guest of the same host took. Both are shares of all cores' time. What
``merino_edge.runtime.conditions`` does for one process is done here for a parent and its children.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

MOST_LOAD = 0.3  # at the start: the mean of the last minute, of processes that want a core
MOST_OTHERS = 0.03
MOST_STEAL = 0.01
MOST_ASLEEP = 0.02  # of one core, by contestants that should sleep
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


class Look(NamedTuple):
    """CPU times in seconds since a fixed moment, over all cores."""

    total_s: float
    busy_s: float
    steal_s: float
    ours_s: float


class Interval(NamedTuple):
    """What happened between two looks, as shares of all cores' time."""

    seconds: float
    others_share: float
    steal_share: float


def look(children_cpu_s: float, stat: str | None = None) -> Look:
    """Look now.

    Args:
        children_cpu_s: What our running children have used so far; of those that ended, the
            kernel tells.
        stat: Text of /proc/stat; None to read it.
    """
    text = stat if stat is not None else Path("/proc/stat").read_text("ascii")
    ticks = [int(word) for word in re.match(r"cpu +([\d ]+)", text).group(1).split()[:8]]
    idle, steal, total = ticks[3] + ticks[4], ticks[7], sum(ticks)
    own = os.times()
    return Look(
        total_s=total * _TICK_S,
        busy_s=(total - idle - steal) * _TICK_S,
        steal_s=steal * _TICK_S,
        ours_s=sum(own[:4]) + children_cpu_s,
    )


def between(before: Look, after: Look, seconds: float) -> Interval:
    """The interval; nothing is below 0, though clocks of the kernel are coarse."""
    total_s = max(after.total_s - before.total_s, _TICK_S)
    others_s = (after.busy_s - before.busy_s) - (after.ours_s - before.ours_s)
    steal_s = after.steal_s - before.steal_s
    return Interval(
        round(seconds, 2),
        round(max(0.0, others_s / total_s), 4),
        round(max(0.0, steal_s / total_s), 4),
    )


def warnings(load_before: float, intervals: Sequence[Interval]) -> list[str]:
    """Why to mistrust the figures, in plain words; empty for a quiet machine."""
    found = []
    if load_before > MOST_LOAD:
        found.append(f"load was {load_before:.2f} before it began; {MOST_LOAD} would be quiet.")
    noisy = [i for i in intervals if i.others_share > MOST_OTHERS]
    if noisy:
        worst = max(i.others_share for i in noisy)
        found.append(
            f"other processes used up to {worst:.0%} of the cores "
            f"in {len(noisy)} of {len(intervals)} rounds."
        )
    stolen = max((i.steal_share for i in intervals), default=0.0)
    if stolen > MOST_STEAL:
        found.append(f"the hypervisor took up to {stolen:.1%} of the cores in a round.")
    return found
