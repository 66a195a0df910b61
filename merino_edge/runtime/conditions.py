"""Was the machine quiet? A snapshot before, one after, and what happened between them.

The one idea: the load average remembers a minute and counts ourselves, so it is only a hint; the
time that *other* processes took while we measured is the fact, and /proc/stat knows it.
"""

import os
import re
from typing import List, NamedTuple, Optional, Tuple

from merino_edge.formats.measurement import Conditions
from merino_edge.runtime.device_info import find, hottest_c, power_mode, read_text

BUSY_SHARE = 0.05  # of all cores: above it the spread of our own timings grows visibly
BUSY_LOAD = 0.5  # per core, at the start
MIN_TICKS = 40  # fewer of the kernel's ticks say nothing about shares
_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Snapshot(NamedTuple):
    """One look at the machine; CPU times in seconds, over all cores, since a fixed moment."""

    load: Optional[float]
    temp_c: Optional[float]
    cpu_busy_s: Optional[float]
    cpu_total_s: Optional[float]
    own_cpu_s: float


def snapshot(root: str = "/") -> Snapshot:
    """Look now."""
    busy_s, total_s = _cpu_times(root)
    own = os.times()
    load = re.match(r"^[\d.]+", read_text(root, "/proc/loadavg") or "")
    return Snapshot(
        load=float(load.group(0)) if load else None,
        temp_c=hottest_c(root),
        cpu_busy_s=busy_s,
        cpu_total_s=total_s,
        own_cpu_s=own.user + own.system,
    )


def conditions_between(
    before: Snapshot, after: Snapshot, n_cores: int, root: str = "/"
) -> Conditions:
    """The conditions of what ran between two snapshots, with warnings in plain words."""
    share = others_cpu_share(before, after)
    mode = power_mode(root)
    return Conditions(
        load_before=before.load,
        load_after=after.load,
        others_cpu_share=share,
        power_mode=mode,
        governor=_governor(root),
        temp_c_start=before.temp_c,
        temp_c_end=after.temp_c,
        warnings=_warnings(before, share, mode, n_cores),
    )


def others_cpu_share(before: Snapshot, after: Snapshot) -> Optional[float]:
    """Share of all cores' time that was not idle and not ours; None where /proc does not tell."""
    if before.cpu_total_s is None or after.cpu_total_s is None:
        return None
    total_s = after.cpu_total_s - before.cpu_total_s
    busy_s = (after.cpu_busy_s or 0.0) - (before.cpu_busy_s or 0.0)
    if total_s < MIN_TICKS / _TICKS_PER_S:
        return None
    others_s = busy_s - (after.own_cpu_s - before.own_cpu_s)
    return min(1.0, max(0.0, others_s / total_s))


def _warnings(
    before: Snapshot, share: Optional[float], mode: Optional[str], n_cores: int
) -> List[str]:
    found = []
    if share is not None and share > BUSY_SHARE:
        found.append(
            "other processes used {:.0f} % of the CPU while this was measured.".format(100 * share)
        )
    elif share is None and before.load is not None and before.load > BUSY_LOAD * n_cores:
        found.append(
            "the machine was busy before it began: load {:.2f} on {} cores.".format(
                before.load, n_cores
            )
        )
    if mode is not None and mode != "0" and not mode.startswith("MAXN"):  # Orin: MAXN_SUPER
        found.append("measured in power mode {}, not MAXN.".format(mode))
    return found


def _cpu_times(root: str) -> Tuple[Optional[float], Optional[float]]:
    """(busy, total) seconds over all cores since boot."""
    match = re.match(r"cpu +((?:\d+ ?)+)", read_text(root, "/proc/stat") or "")
    ticks = [int(value) for value in match.group(1).split()[:8]] if match else []
    if len(ticks) < 8:
        return None, None
    idle = ticks[3] + ticks[4]  # idle and waiting for a disk
    return (sum(ticks) - idle) / _TICKS_PER_S, sum(ticks) / _TICKS_PER_S


def _governor(root: str) -> Optional[str]:
    paths = find(root, "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    return read_text(root, paths[0]) if paths else None
