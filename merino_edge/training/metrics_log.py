"""``metrics.jsonl``: one JSON object a step, appended; a resumed run drops what it will do again."""

import json
import os
from typing import TextIO

from merino_edge.errors import FormatError
from merino_edge.formats import jsonio


class MetricsLog:
    """The open log of a run.

    Args:
        path: The file.
        last_step: Lines of later steps are dropped: the run continues after this one.

    Raises:
        FormatError: A line that would be kept is not one of ours.
    """

    def __init__(self, path: str, last_step: int):
        jsonio.write_bytes_atomic(path, _kept_lines(path, last_step))
        self._stream: TextIO = open(path, "a", encoding="utf-8")  # noqa: SIM115 - see close()

    def add(self, **values: float) -> None:
        """Append one line; values are rounded by nobody."""
        self._stream.write(json.dumps(values) + "\n")

    def flush(self) -> None:
        """Put the lines on the disk, before a state that counts on them."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Flush and close."""
        self._stream.close()


def read_metrics(path: str) -> list[dict[str, float]]:
    """All lines of a log.

    Raises:
        FormatError: Missing, or a line is not JSON.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            return [json.loads(line) for line in stream]
    except FileNotFoundError as error:
        raise FormatError("the file does not exist.", path) from error
    except ValueError as error:
        raise FormatError(f"not a metrics file: {error}.", path) from error


def _kept_lines(path: str, last_step: int) -> bytes:
    """The lines up to a step; a crash may have left half a line behind them."""
    if not os.path.isfile(path) or last_step == 0:
        return b""
    with open(path, "rb") as stream:
        lines = stream.read().splitlines(keepends=True)[:last_step]
    try:
        steps = [json.loads(line)["step"] for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"not a metrics file: {error!r}.", path) from error
    if steps != list(range(1, last_step + 1)):
        raise FormatError(f"does not hold the steps 1 to {last_step} in order.", path)
    return b"".join(lines)
