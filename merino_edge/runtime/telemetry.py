"""Power and throttling while something is timed: joules from samples, and what is above idle.

The one idea: a thread looks at the board's input rail about twenty times a second and keeps
(time, watts); whoever times something says from when to when it ran. The energy of such a span is
the area under its *own* samples (a trapezoid between two, the first and last held to the ends), so
what ran before and after does not leak into it. A span may be shorter than the time between two
samples and hold none; many such spans together still meet enough of them, and give a mean power.

Idle power is measured first, with nothing running, so that energy can be stated both ways: all of
it, as a battery sees it, and above idle, as the work causes it.

Where the board shows no rail, no thread is started and everything is None: not measured, never
zero. A rail that stops answering leaves a gap; a span with a gap has no energy, and a warning says
so. Nothing is known here of models or of tables.
"""

import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from merino_edge.runtime.jtop_door import open_jtop
from merino_edge.runtime.rails import PowerSource, sysfs_source
from merino_edge.runtime.throttling import Signs, signs, throttled_between

RATE_HZ = 20.0  # a look costs an I2C transfer or two, of about a millisecond
IDLE_S = 2.0
FEWEST_SAMPLES = 3  # fewer are no mean
LEAST_S = 0.4  # of a sample of a workload, where power is measured: eight looks
LOOK_S = 0.5  # between two looks for throttling; one costs a dozen small files
MAX_GAP_S = 0.5  # without a reading, in what counts as measured

Span = Tuple[float, float]  # perf_counter seconds: from, to


class Sample(NamedTuple):
    """One reading: when (perf_counter seconds), and how many watts."""

    at_s: float
    watts: float


class Energy(NamedTuple):
    """What some spans took.

    Attributes:
        mean_w: Mean power over those that were seen.
        n_samples: Readings that it rests on.
    """

    mean_w: float
    n_samples: int


class Trace:
    """Readings in the order of time, and what follows from them.

    One thread may add while another one asks.
    """

    def __init__(self, samples: Sequence[Sample] = ()):
        self.samples = list(samples)
        self.n_missed = 0  # readings that gave nothing

    def add(self, at_s: float, watts: Optional[float]) -> None:
        """Keep a reading; None is one that failed."""
        if watts is None:
            self.n_missed += 1
        else:
            self.samples.append(Sample(at_s, watts))

    def within(self, span: Span) -> List[Sample]:
        """The readings of a span."""
        return [sample for sample in list(self.samples) if span[0] <= sample.at_s <= span[1]]

    def energy_j(self, span: Span) -> Optional[float]:
        """Joules of a span by its own readings; None if it has none, or a gap of ``MAX_GAP_S``."""
        return _area_j(self.within(span), span)

    def mean_power(self, spans: Sequence[Span]) -> Optional[Energy]:
        """The mean over all spans that hold a reading, each by its length.

        Returns:
            None if they hold fewer than ``FEWEST_SAMPLES`` together.
        """
        joules = seconds = 0.0
        n_samples = 0
        for span in spans:
            inside = self.within(span)
            area_j = _area_j(inside, span)
            if area_j is not None:
                joules += area_j
                seconds += span[1] - span[0]
                n_samples += len(inside)
        if n_samples < FEWEST_SAMPLES or seconds <= 0.0:
            return None
        return Energy(joules / seconds, n_samples)


def _area_j(samples: List[Sample], span: Span) -> Optional[float]:
    if not samples:
        return None
    first, last = samples[0], samples[-1]
    held = [Sample(span[0], first.watts)] + samples + [Sample(span[1], last.watts)]
    joules = 0.0
    for one, other in zip(held, held[1:]):
        seconds = other.at_s - one.at_s
        if seconds > MAX_GAP_S:
            return None
        joules += seconds * (one.watts + other.watts) / 2.0
    return joules


class Sampler:
    """A thread that reads watts until it is stopped.

    Args:
        read_w: Gives watts or None, and does not raise.
        rate_hz: Readings a second; one that took too long is not caught up with.
    """

    def __init__(self, read_w: Callable[[], Optional[float]], rate_hz: float = RATE_HZ):
        self.trace = Trace()
        self._read_w, self._period_s = read_w, 1.0 / rate_hz
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="power", daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def stop(self) -> None:
        """End; no reading is added after this returns."""
        self._stopped.set()
        self._thread.join()

    def look(self) -> None:
        """One reading."""
        at_s = time.perf_counter()
        self.trace.add(at_s, self._read_w())

    def _loop(self) -> None:
        due_s = time.perf_counter()
        while not self._stopped.is_set():
            self.look()
            now_s = time.perf_counter()
            due_s = max(due_s + self._period_s, now_s)
            self._stopped.wait(due_s - now_s)


class Watch:
    """Power and throttling while the ``with`` block runs; made by ``Telemetry.watch``.

    Attributes:
        least_s: How long a workload should be repeated to be seen; 0 where no power is measured.
        throttled: Whether clocks were held back; None where the board does not tell. Looked for at
            the beginning, at the end, and between whatever ran.
        limited_by: Names of what held them back, for people.
    """

    def __init__(self, telemetry: "Telemetry"):
        self._telemetry = telemetry
        self._spans: Dict[str, List[Span]] = {}
        self._sampler = telemetry.new_sampler()
        self.least_s = LEAST_S if self._sampler else 0.0
        self.throttled: Optional[bool] = None
        self.limited_by: List[str] = []
        self._signs: Optional[Signs] = None
        self._looked_s = 0.0

    def __enter__(self) -> "Watch":
        self._look()
        if self._sampler:
            self._sampler.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._sampler:
            self._sampler.stop()
            self._telemetry.note_missed(self._sampler.trace)
        self._look()

    def add(self, label: str, start_s: float, end_s: float) -> None:
        """Say, when nothing is being timed, what ran from when to when by ``perf_counter``."""
        if self._sampler:
            self._spans.setdefault(label, []).append((start_s, end_s))
        if self._signs is not None and end_s - self._looked_s > LOOK_S:
            self._look()

    def mean_w(self, label: str) -> Optional[float]:
        """Mean power while that ran; None where it was not measured."""
        if not self._sampler:
            return None
        found = self._sampler.trace.mean_power(self._spans.get(label, []))
        return None if found is None else found.mean_w

    def _look(self) -> None:
        """Compare what the board says with what it said before."""
        now = self._telemetry.signs()
        if now is None:
            return
        before = self._signs or now
        self.throttled = bool(self.throttled) or bool(throttled_between(before, now))
        self.limited_by += [name for name in now.limited if name not in self.limited_by]
        self._signs, self._looked_s = now, time.perf_counter()


class Telemetry:
    """What one machine can tell about itself while it works.

    Args:
        source: Of power; None where there is none.
        root: Where the machine's files begin.
        sampler: Makes what samples, from a function that reads watts.

    Attributes:
        root: As given.
        idle_w: Mean power with nothing running; None until ``measure_idle``, or without a source.
        tells_throttling: Whether this board says when it holds its clocks back.
        warnings: Sentences for people.
    """

    def __init__(
        self,
        source: Optional[PowerSource],
        root: str = "/",
        sampler: Callable[[Callable[[], Optional[float]]], Sampler] = Sampler,
    ):
        self.source, self.root, self._sampler = source, root, sampler
        self.tells_throttling = signs(root).told
        self.idle_w: Optional[float] = None
        self.warnings: List[str] = []

    @classmethod
    def open(cls, root: str = "/") -> "Telemetry":
        """Of this machine: by the kernel's rails, or a running jtop service, or without power."""
        return cls(open_source(root), root)

    def __enter__(self) -> "Telemetry":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the source."""
        if self.source is not None:
            self.source.close()

    def measure_idle(
        self, on_note: Callable[[str], None] = lambda text: None, seconds: float = IDLE_S
    ) -> Optional[float]:
        """Wait, see what the board takes meanwhile, and keep it in ``idle_w``.

        Nothing happens where no power is told, or where idle power is known already.

        Args:
            on_note: Told that it is being done.
            seconds: How long.
        """
        if self.source is None or self.idle_w is not None:
            return self.idle_w
        on_note("idle power, {}".format(self.source.name))
        with Watch(self) as watch:
            start_s = time.perf_counter()
            time.sleep(seconds)
            watch.add("idle", start_s, time.perf_counter())
        self.idle_w = watch.mean_w("idle")
        return self.idle_w

    def watch(self) -> Watch:
        """Something to hold while work is timed."""
        return Watch(self)

    def new_sampler(self) -> Optional[Sampler]:
        """One that has not begun; None where no power is told."""
        return None if self.source is None else self._sampler(self.source.read_w)

    def signs(self) -> Optional[Signs]:
        """A look at what limits clocks; None, at no cost, where the board tells nothing."""
        return signs(self.root) if self.tells_throttling else None

    def note_missed(self, trace: Trace) -> None:
        """Warn, once, of a rail that did not answer."""
        if trace.n_missed and self.source is not None and not self.warnings:
            self.warnings.append(
                "{} gave no value in {} of {} readings: energy is stated only where it did.".format(
                    self.source.name, trace.n_missed, trace.n_missed + len(trace.samples)
                )
            )


def open_source(root: str = "/") -> Optional[PowerSource]:
    """The board's power by its kernel, else by jtop (which speaks for this machine only)."""
    found = sysfs_source(root)
    return open_jtop() if found is None and root == "/" else found
