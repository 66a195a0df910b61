"""How much memory this process has held at most.

The one idea: a process that was started by a larger one must not report the larger one's memory.
Linux carries ``ru_maxrss`` over from the parent (getrusage(2): it outlives an exec), and counts
VmHWM (proc(5)) from the exec on; measured 2026-11-29, Linux 6.18: an empty Python, started by one
that held 0.54 GB, had 551 MB by the first and 27 MB by the second.
"""

import resource
import sys
from typing import Optional


def peak_rss_bytes() -> int:
    """Peak resident memory of this process since it began; mapped files count as far as touched.

    Where there is no /proc, that of a larger parent at its start may be the result.
    """
    found = _high_water_bytes("/proc/self/status")
    if found is not None:
        return found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts kilobytes


def _high_water_bytes(path: str) -> Optional[int]:
    """VmHWM of a status file; None where it is not told."""
    try:
        with open(path, "rb") as stream:
            lines = [line.split() for line in stream if line.startswith(b"VmHWM:")]
    except OSError:
        return None
    return int(lines[0][1]) * 1024 if lines else None
