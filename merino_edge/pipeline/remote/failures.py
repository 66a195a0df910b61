"""What the board's program said before it failed, in the user's words.

The one idea: every command of ours ends a failure with the same lines (error, note, hint) and with
a code that means the same on both machines, so what failed there is told here as if it had failed
here. This module does not know what the program was to do.
"""

from typing import NamedTuple

from merino_edge.errors import BoardBuildError, MerinoError, StoppedError
from merino_edge.pipeline.remote.link_errors import last_line

# Exit codes that mean the same on both machines; any other failure is 1 here.
_OURS = (1, 2, 3, 4, 5, 6, 8)
# 128 + SIGKILL: on a board without swap that is the kernel, out of memory.
_KILLED, _OUT_OF_MEMORY = 137, 4
_CANCELLED = 130


class Ended(NamedTuple):
    """A program on a board that did not end well.

    Attributes:
        noun: What it was, for people: "build".
        host: The board, as the user wrote it.
        exit_code: Its code there.
        log: The end of its stderr.
        log_path: Where the log lies here.
    """

    noun: str
    host: str
    exit_code: int
    log: str
    log_path: str


def failure(ended: Ended) -> MerinoError:
    """The error for a program that failed on a board, with the code that it had there."""
    said = _last_error(ended.log)
    what = f"the {ended.noun} on '{ended.host}'"
    note = " ".join(filter(None, (said.get("note"), f"The board's whole log: {ended.log_path}.")))
    if ended.exit_code == _CANCELLED:
        return StoppedError(f"{what} was cancelled.", note)
    if ended.exit_code == _KILLED:
        return BoardBuildError(
            f"{what} was killed, most likely for want of memory.",
            _OUT_OF_MEMORY,
            note,
            f"ssh {ended.host} 'dmesg | tail'; add swap there: merino-edge doctor says how.",
        )
    words = said.get("error") or last_line(ended.log) or f"it ended with code {ended.exit_code}."
    code = ended.exit_code if ended.exit_code in _OURS else 1
    hint = f"on the board: {said['hint']}" if "hint" in said else None
    return BoardBuildError(f"{what} failed: {words}", code, note, hint)


def _last_error(log: str) -> dict[str, str]:
    """The three lines that every command of ours ends with when it fails."""
    said: dict[str, str] = {}
    for line in log.splitlines():
        name, colon, text = line.partition(": ")
        if colon and name in ("error", "note", "hint"):
            said = {} if name == "error" else said
            said[name] = text
    return said
