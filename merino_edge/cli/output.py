"""Tables for people, JSON for scripts, progress on stderr.

The one idea: stdout carries results only, so every command can be piped; everything that moves
while you wait goes to stderr, and becomes plain lines where stderr is not a terminal.
"""

import io
import json
import sys
import time
from typing import Any, Sequence


def use_utf8() -> None:
    """Write UTF-8 whatever the locale says.

    A board reached over ssh often has the locale "C", where Python 3.6 would write ASCII and die at
    the first umlaut.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
        if encoding.replace("-", "") != "utf8" and hasattr(stream, "detach"):
            buffered = stream.line_buffering
            utf8 = io.TextIOWrapper(stream.detach(), "utf-8", line_buffering=buffered)
            setattr(sys, name, utf8)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table on stdout, aligned for the eye."""
    sys.stdout.write(table(header, rows))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: first column left, the others right."""
    columns = list(zip(*([tuple(header)] + [tuple(row) for row in rows])))
    widths = [max(len(cell) for cell in column) for column in columns]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        others = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
        return "| " + " | ".join([first] + others) + " |\n"

    rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
    return line(header) + line(rule) + "".join(line(row) for row in rows)


def human_count(value: float) -> str:
    """12345678 -> "12.3M"."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return "{:.4g}{}".format(value / size, unit)
    return "{:.4g}".format(value)


def human_bytes(value: float) -> str:
    """12345678 -> "12.35 MB" (decimal, like a disk)."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size:
            return "{:.4g} {}".format(value / size, unit)
    return "{:.0f} B".format(value)


class Progress:
    """Lines of progress on stderr, each with the time since the start.

    On a terminal the line is rewritten at most ten times a second; elsewhere a plain line
    appears at most every ``plain_every_s`` seconds, so that logs stay short.
    """

    def __init__(self, label: str, quiet: bool = False, plain_every_s: float = 10.0):
        self._label = label
        self._quiet = quiet
        self._tty = sys.stderr.isatty()
        self._every_s = 0.1 if self._tty else plain_every_s
        self._start = time.monotonic()
        self._last = float("-inf")

    def update(self, text: str) -> None:
        """Show ``text`` if it is time to."""
        now = time.monotonic()
        if now - self._last >= self._every_s:
            self._last = now
            self._write(text, "" if self._tty else "\n")

    def done(self, text: str) -> None:
        """Show a line that stays."""
        self._write(text, "\n")

    def _write(self, text: str, end: str) -> None:
        if self._quiet:
            return
        elapsed = int(time.monotonic() - self._start)
        line = "[{:02d}:{:02d}] {}: {}".format(elapsed // 60, elapsed % 60, self._label, text)
        sys.stderr.write(("\r\x1b[K" if self._tty else "") + line + end)
        sys.stderr.flush()


def warn(text: str) -> None:
    """A line on stderr that starts with "warning:"."""
    sys.stderr.write("warning: " + text + "\n")


def first_line(text: str, limit: int = 60) -> str:
    """The beginning of a text, for a table cell."""
    line = text.strip().split("\n")[0] if text.strip() else ""
    return line if len(line) <= limit else line[: limit - 1] + "…"
