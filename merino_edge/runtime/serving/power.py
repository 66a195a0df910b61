"""The board's power while a server works, for as long as it serves.

The one idea: sums instead of a list. A server runs for months, so the joules so far, the seconds
that they cover and the number of readings are kept, and who wants to know about a span compares two
looks. While nothing runs the rail is read once a second; while something does, as often as a
benchmark reads it. What a rail did not tell is not in the sums: a gap lowers the seconds covered.
"""

import contextlib
import threading
import time
from typing import Iterator, NamedTuple, Optional

from merino_edge.runtime.rails import PowerSource
from merino_edge.runtime.telemetry import FEWEST_SAMPLES, MAX_GAP_S, RATE_HZ, open_source

IDLE_PERIOD_S = 1.0
LEAST_COVERED = 0.8  # of a span, for its mean to count


class Mark(NamedTuple):
    """One look at the sums: when, joules so far, seconds that they cover, readings."""

    at_s: float
    joules: float
    covered_s: float
    n_samples: int


class PowerMeter:
    """A thread that reads watts and adds them up.

    Args:
        source: Of power; not closed here.

    Attributes:
        watts: The last reading; None if it failed, or before the first.
    """

    def __init__(self, source: PowerSource):
        self.source = source
        self.watts: Optional[float] = None
        self._lock = threading.Lock()
        self._sums = Mark(0.0, 0.0, 0.0, 0)
        self._work, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._loop, name="power", daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def stop(self) -> None:
        """End; no reading is added after this returns."""
        self._stopped.set()
        self._work.set()
        self._thread.join()

    def set_busy(self, busy: bool) -> None:
        """Whether something runs that is worth many readings."""
        if busy:
            self._work.set()
        else:
            self._work.clear()

    def mark(self) -> Mark:
        """The sums now, with a reading of now where the last one is old."""
        now_s = time.perf_counter()
        if now_s - self._sums.at_s > 1.0 / RATE_HZ:
            self.look(now_s)
        return self._sums

    def mean_w_since(self, mark: Mark) -> Optional[float]:
        """Mean power since a look; None with too few readings, or with gaps between them."""
        now = self.mark()
        covered_s, n_samples = now.covered_s - mark.covered_s, now.n_samples - mark.n_samples
        if n_samples < FEWEST_SAMPLES or covered_s < LEAST_COVERED * (now.at_s - mark.at_s):
            return None
        return (now.joules - mark.joules) / covered_s

    def look(self, at_s: float) -> None:
        """One reading."""
        with self._lock:
            watts, before_w, since_s = self.source.read_w(), self.watts, at_s - self._sums.at_s
            _, joules, covered_s, n_samples = self._sums
            if watts is not None:
                n_samples += 1
                if before_w is not None and 0.0 < since_s <= MAX_GAP_S + IDLE_PERIOD_S:
                    joules += since_s * (watts + before_w) / 2.0
                    covered_s += since_s
            self.watts, self._sums = watts, Mark(at_s, joules, covered_s, n_samples)

    def _loop(self) -> None:
        while not self._stopped.is_set():
            self.look(time.perf_counter())
            if self._work.wait(IDLE_PERIOD_S):
                self._stopped.wait(1.0 / RATE_HZ)


@contextlib.contextmanager
def metering(root: str) -> Iterator[Optional[PowerMeter]]:
    """A meter that runs while the block does; None where the machine shows no power.

    Args:
        root: Where the machine's files begin.
    """
    source = open_source(root)
    if source is None:
        yield None
        return
    meter = PowerMeter(source)
    with contextlib.closing(source):
        meter.start()
        try:
            yield meter
        finally:
            meter.stop()
