"""How much memory this process has held at most."""

import resource
import sys


def peak_rss_bytes() -> int:
    """Peak resident memory of this process since it began; mapped files count as far as touched."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts kilobytes
