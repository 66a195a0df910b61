"""Every error a user can cause or meet, in one tree.

The one idea: an error is a sentence with the values in it, a note with the facts, and a hint
with the command that helps. The command line prints those three lines and exits with the
class's own code; anything that is *not* in this tree is a bug of ours and shows its traceback.

::

    MerinoError                        exit 1
    ├─ UsageError                           2   options that do not go together
    ├─ SpecError (ValueError)               2   an architecture, budget or config breaks its rules
    ├─ BudgetError                          6   nothing fits; .closest and .violations
    ├─ FormatError                          8   a file is not what it claims; .path and .field
    │  ├─ SchemaVersionError                3   written by another version
    │  └─ ChecksumError                     8   changed since it was made
    ├─ UnsupportedError                     3   a real thing that this version cannot take
    ├─ ParityError                          5   the export disagrees with the reference
    ├─ MissingDependencyError (ImportError) 1   which package, which machine, how to get it
    ├─ EngineError                          3   TensorRT or ONNX Runtime refused a graph
    ├─ DeviceMemoryError                    4   .needed_bytes, .free_bytes
    ├─ CudaError                            1   CUDA refused a call; .call, .code_name, .code
    ├─ SessionError                         1   context full, session closed, bad token
    ├─ BusyError                            1   a server has no room now; .reason, .retry_after_s
    ├─ BoardError                           7   a board cannot be reached, or cannot take the work
    │  └─ BoardBuildError              its own   the build on the board failed, with that code
    └─ StoppedError                       130   asked to stop; what was done is saved

This module knows nothing of the rest of the package.
"""

from typing import Any, Optional, Sequence


class MerinoError(Exception):
    """Base of all errors that are meant for a person.

    Args:
        message: What happened, with the values.
        note: The facts around it.
        hint: What to do, best a command.
    """

    exit_code = 1

    def __init__(self, message: str, note: Optional[str] = None, hint: Optional[str] = None):
        super().__init__(message)
        self.message = message
        self.note = note
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.message]
        if self.note:
            lines.append("Note: " + self.note)
        if self.hint:
            lines.append("Hint: " + self.hint)
        return "\n".join(lines)


class UsageError(MerinoError):
    """Options that are wrong, or do not go together."""

    exit_code = 2


class SpecError(MerinoError, ValueError):
    """An architecture, budget or configuration breaks its own rules; holds the field, if one does.

    With a field the message is what follows its name: ``SpecError("is 0, ...", field="depth")``.
    """

    exit_code = 2

    def __init__(
        self, message: str, note: Optional[str] = None, hint: Optional[str] = None, field: str = ""
    ):
        super().__init__((field + " " if field else "") + message, note, hint)
        self.field = field
        self.reason = message


class BudgetError(MerinoError):
    """No candidate satisfies the budget; holds the closest one and what it violates."""

    exit_code = 6

    def __init__(
        self,
        message: str,
        closest: Any = None,
        violations: Sequence[Any] = (),
        note: Optional[str] = None,
        hint: Optional[str] = None,
    ):
        super().__init__(message, note, hint)
        self.closest = closest
        self.violations = violations


class FormatError(MerinoError):
    """A file is not what it claims to be; holds its path and, if known, the field."""

    exit_code = 8

    def __init__(
        self,
        message: str,
        path: str = "",
        field: str = "",
        note: Optional[str] = None,
        hint: Optional[str] = None,
    ):
        where = path + (": " + field if field else "")
        super().__init__((where + ": " if where else "") + message, note, hint)
        self.path = path
        self.field = field


class SchemaVersionError(FormatError):
    """A file written by a version with another schema."""

    exit_code = 3


class ChecksumError(FormatError):
    """A file that changed since it was made."""


class UnsupportedError(MerinoError):
    """Something real that this version does not support; the message names it."""

    exit_code = 3


class ParityError(MerinoError):
    """Two implementations of one model disagree."""

    exit_code = 5

    def __init__(
        self,
        message: str,
        max_abs_diff: Optional[float] = None,
        tolerance: Optional[float] = None,
        step: Optional[int] = None,
        note: Optional[str] = None,
        hint: Optional[str] = None,
    ):
        super().__init__(message, note, hint)
        self.max_abs_diff = max_abs_diff
        self.tolerance = tolerance
        self.step = step


class MissingDependencyError(MerinoError, ImportError):
    """A package that a command needs is not installed."""

    def __init__(self, package: str, purpose: str, hint: str):
        super().__init__(
            "the package '{}' is not installed; {} needs it.".format(package, purpose), hint=hint
        )
        self.package = package


class EngineError(MerinoError):
    """A runtime could not parse, build or load a graph; holds the runtime's own words."""

    exit_code = 3


class DeviceMemoryError(MerinoError):
    """Not enough memory; holds what was needed and what was free, in bytes."""

    exit_code = 4

    def __init__(
        self, message: str, needed_bytes: int, free_bytes: int, hint: Optional[str] = None
    ):
        super().__init__(
            message, "{} bytes needed, {} bytes free.".format(needed_bytes, free_bytes), hint
        )
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class CudaError(MerinoError):
    """CUDA refused a call, or cannot be used here at all; holds the call and the code's name.

    Args:
        message: What happened.
        call: The function that failed, "" if none was called.
        code_name: As CUDA names it, "cudaErrorNoDevice", or "" if the door does not learn it.
        code: The number behind it; None if no call failed.
        note: The facts around it.
        hint: What to do.
    """

    def __init__(
        self,
        message: str,
        call: str = "",
        code_name: str = "",
        code: Optional[int] = None,
        note: Optional[str] = None,
        hint: Optional[str] = None,
    ):
        super().__init__(message, note, hint)
        self.call = call
        self.code_name = code_name
        self.code = code


class SessionError(MerinoError):
    """A session was asked for something it cannot do now."""


class BusyError(MerinoError):
    """A server has no room for a request now; asking again later is right.

    Args:
        message: What is full, with the limit.
        reason: "client" (too much of this client waits), "queue" (too much waits) or "stopping".
        retry_after_s: When asking again may help; a guess.
        hint: What to do.
    """

    def __init__(
        self, message: str, reason: str, retry_after_s: float = 1.0, hint: Optional[str] = None
    ):
        super().__init__(message, hint=hint)
        self.reason = reason
        self.retry_after_s = retry_after_s


class BoardError(MerinoError):
    """A board cannot be reached, or cannot take the work; the note has ssh's own last line."""

    exit_code = 7


class BoardBuildError(BoardError):
    """The build on the board failed; carries the exit code that it had there.

    Args:
        message: What the board said.
        exit_code: The board's, if it is one of ours.
        note: The board's note.
        hint: The board's hint.
    """

    def __init__(
        self, message: str, exit_code: int, note: Optional[str] = None, hint: Optional[str] = None
    ):
        super().__init__(message, note, hint)
        self.exit_code = exit_code


class StoppedError(MerinoError):
    """Someone asked to stop, and the work is saved; the hint says how to go on."""

    exit_code = 130
