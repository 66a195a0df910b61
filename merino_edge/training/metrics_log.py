"""``metrics.jsonl``: one JSON object a step, appended.

A resumed run drops the lines of steps that it will do again, so the file reads like one run's.
"""

import json
import os
from typing import Protocol, TextIO

from merino_edge.formats import jsonio


class Log(Protocol):
    """A place for the figures of each step."""

    def add(self, **values: float | None) -> None:
        """Take the figures of one step, "step" among them."""

    def flush(self) -> None:
        """Put them on the disk."""

    def close(self) -> None:
        """Flush and close."""


class MetricsLog:
    """The open log of a run.

    Args:
        path: The file.
        last_step: Lines of later steps are dropped: the run continues after this one.
    """

    def __init__(self, path: str, last_step: int):
        jsonio.write_bytes_atomic(path, _kept_lines(path, last_step))
        self._stream: TextIO = open(path, "a", encoding="utf-8")  # noqa: SIM115 - see close()

    def add(self, **values: float | None) -> None:
        """Append one line; values are rounded by nobody."""
        self._stream.write(json.dumps(values) + "\n")

    def flush(self) -> None:
        """Put the lines on the disk, before a state that counts on them."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Flush and close."""
        self._stream.close()


def _kept_lines(path: str, last_step: int) -> bytes:
    """The lines up to a step; what a crash left of a later one is dropped with it."""
    if not os.path.isfile(path):
        return b""
    with open(path, "rb") as stream:
        return b"".join(line for line in stream if _step_of(line) <= last_step)


def _step_of(line: bytes) -> float:
    """The step of a line; infinity for half a line, or none of ours."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
