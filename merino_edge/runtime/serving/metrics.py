"""Counters and histograms, written in the text format that Prometheus reads.

The one idea: a figure is a name, a help line and values by labels; a histogram is counts below a
few fixed bounds, so it takes the same memory after a year. One lock for all, held for a few
microseconds. The format is version 0.0.4 of Prometheus's exposition formats; names end in their
unit, and counters in ``_total``, as its guide asks. Nothing is known here of servers or boards.
"""

import threading
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = Tuple[Tuple[str, str], ...]


class Metrics:
    """All figures of a process that are counted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._help: Dict[str, str] = {}
        self._counters: Dict[str, Dict[Labels, float]] = {}
        self._histograms: Dict[str, "_Histogram"] = {}

    def counter(self, name: str, help_text: str, **labels: str) -> None:
        """Make a counter known; with labels, that combination of them, beginning at zero."""
        self._help[name] = help_text
        values = self._counters.setdefault(name, {})
        if labels or not values:
            values.setdefault(_key(labels), 0.0)

    def histogram(self, name: str, help_text: str, bounds: Sequence[float]) -> None:
        """Make a histogram known; the bounds ascend."""
        self._help[name] = help_text
        self._histograms[name] = _Histogram(bounds)

    def add(self, counter: str, amount: float = 1.0, **labels: str) -> None:
        """Count."""
        key = _key(labels)
        with self._lock:
            values = self._counters[counter]
            values[key] = values.get(key, 0.0) + amount

    def observe(self, name: str, value: float) -> None:
        """Put one value into a histogram."""
        with self._lock:
            self._histograms[name].observe(value)

    def value(self, name: str, **labels: str) -> float:
        """What a counter has counted."""
        with self._lock:
            return self._counters[name].get(_key(labels), 0.0)

    def lines(self) -> List[str]:
        """All of it, in the format."""
        with self._lock:
            found: List[str] = []
            for name, values in self._counters.items():
                found += _head(name, "counter", self._help[name])
                found += [_line(name, labels, value) for labels, value in values.items()]
            for name, histogram in self._histograms.items():
                found += _head(name, "histogram", self._help[name]) + histogram.lines(name)
            return found


class _Histogram:
    def __init__(self, bounds: Sequence[float]):
        self.bounds = list(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        below = [index for index, bound in enumerate(self.bounds) if value <= bound]
        self.counts[below[0] if below else -1] += 1
        self.total += value

    def lines(self, name: str) -> List[str]:
        found, so_far = [], 0
        for bound, count in zip([_number(b) for b in self.bounds] + ["+Inf"], self.counts):
            so_far += count
            found.append(_line(name + "_bucket", (("le", bound),), so_far))
        return found + [_line(name + "_sum", (), self.total), _line(name + "_count", (), so_far)]


def gauge_lines(
    name: str,
    help_text: str,
    value: Optional[float],
    labels: Optional[Mapping[str, str]] = None,
    kind: str = "gauge",
) -> List[str]:
    """A figure that is looked up when it is asked for; no line at all where there is none."""
    if value is None:
        return []
    return _head(name, kind, help_text) + [_line(name, _key(labels or {}), value)]


def _head(name: str, kind: str, help_text: str) -> List[str]:
    return ["# HELP {} {}".format(name, help_text), "# TYPE {} {}".format(name, kind)]


def _line(name: str, labels: Labels, value: float) -> str:
    pairs = ",".join('{}="{}"'.format(key, _escaped(text)) for key, text in labels)
    return "{}{} {}".format(name, "{" + pairs + "}" if pairs else "", _number(value))


def _key(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return "{:d}".format(int(value)) if value == int(value) else repr(float(value))
