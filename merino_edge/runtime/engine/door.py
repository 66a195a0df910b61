"""The one door to TensorRT, and to TensorRT-RTX, its sister for the cards of workstations.

The one idea: whoever needs the library gets a ``Library``, which also keeps what the library says.
TensorRT reports almost every failure by returning ``None`` or ``False`` and writing the reason to a
logger, so a good error message is made of that log. The log must outlive every object that was
made with it; keep the ``Library`` as long as any of them. TensorRT keeps the first logger of a
process while anything made with it lives, and ignores every other; so there is one for all that
open it, and opening it again begins a new page in it.

This module knows nothing of engines, and tells versions apart for messages only.
"""

import collections
import contextlib
import re
import weakref
from typing import Any, Callable, Deque, List, MutableMapping, NamedTuple, Optional, Tuple

from merino_edge.errors import EngineError, MissingDependencyError, UsageError

TENSORRT, TENSORRT_RTX = "tensorrt", "tensorrt-rtx"
OnLine = Callable[[str], None]

_JETPACK_HINT = (
    "on a Jetson it comes with JetPack, for the system's Python only: run /usr/bin/python3, or a "
    "virtual environment made with --system-site-packages (in a container: --runtime nvidia). "
    "On a workstation: pip install tensorrt-cu12."
)
_RTX_HINT = (
    "pip install tensorrt-rtx-cu12-libs==1.7.1.116 tensorrt-rtx-cu12-bindings==1.7.1.116 "
    "(Linux or Windows, x86_64)."
)


class LogLines:
    """What TensorRT said: errors and warnings are kept (the last 200), the rest is passed on.

    Attributes:
        errors, warnings: The last ones, oldest first.
        memory: The last lines about memory, such as what loading cuBLAS took.
        n_skipped_tactics: Tactics that were not tried because memory was short.
    """

    def __init__(self, on_line: Optional[OnLine] = None):
        self.errors: Deque[str] = collections.deque(maxlen=200)
        self.warnings: Deque[str] = collections.deque(maxlen=200)
        self.memory: Deque[str] = collections.deque(maxlen=16)
        self.n_skipped_tactics = 0
        self._on_line = on_line

    def log(self, severity: Any, msg: str) -> None:
        """TensorRT calls this from C++, where an exception of ours would end the process."""
        with contextlib.suppress(Exception):
            self._keep(severity.name, str(msg).strip())

    def say(self, text: str) -> None:
        """Pass a line of our own to whoever watches."""
        if self._on_line is not None:
            self._on_line(text)

    def last_errors(self, n: int = 5) -> str:
        """The newest errors, as one text for a message."""
        return " | ".join(list(self.errors)[-n:]) or "TensorRT gave no reason"

    def _keep(self, severity: str, text: str) -> None:
        if severity == "VERBOSE":  # tens of thousands of lines in a build
            return
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self.errors.append(text)
        elif severity == "WARNING":
            self.warnings.append(text)
        if re.search("skipping tactic", text, re.IGNORECASE):
            self.n_skipped_tactics += 1
        if "MemUsage" in text:
            self.memory.append(text)
        self.say(text)


class Library(NamedTuple):
    """TensorRT, opened.

    Attributes:
        module: The Python module.
        version: Such as (8, 2, 1, 8).
        version_text: The same as TensorRT writes it.
        kind: "tensorrt" or "tensorrt-rtx".
        log: An ``ILogger`` that is a ``LogLines`` too; hand it to Builder, OnnxParser and Runtime.
    """

    module: Any
    version: Tuple[int, ...]
    version_text: str
    kind: str
    log: Any


def open_tensorrt(kind: str = TENSORRT, on_line: Optional[OnLine] = None) -> Library:
    """Import TensorRT and give it a log.

    Args:
        kind: "tensorrt" or "tensorrt-rtx".
        on_line: Called with each line that TensorRT writes at level INFO and above.

    Raises:
        MissingDependencyError: It is not installed; the hint says how to get it.
        EngineError: It is installed, but its libraries do not load.
        UsageError: ``kind`` is neither.
    """
    doors = {TENSORRT: _import_tensorrt, TENSORRT_RTX: _import_tensorrt_rtx}
    if kind not in doors:
        raise UsageError("'{}' is not a TensorRT.".format(kind), hint="one of " + ", ".join(doors))
    try:
        module = doors[kind]()
    except ModuleNotFoundError as error:
        if error.name not in ("tensorrt", "tensorrt_rtx_bindings"):
            raise _unloadable(kind, error)
        hint = _JETPACK_HINT if kind == TENSORRT else _RTX_HINT
        raise MissingDependencyError(kind, "the backend '{}'".format(kind), hint)
    except (ImportError, OSError) as error:
        raise _unloadable(kind, error)
    text = str(module.__version__)
    return Library(module, _numbers(text), text, kind, _log_of(module, on_line))


def _import_tensorrt() -> Any:
    import tensorrt

    if not hasattr(tensorrt, "__version__"):  # a folder of that name on the path
        raise ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt")
    return tensorrt


def _import_tensorrt_rtx() -> Any:
    """NVIDIA's full package is ``tensorrt_rtx``; its bindings alone do as well."""
    try:
        import tensorrt_rtx

        return tensorrt_rtx
    except ModuleNotFoundError:
        import tensorrt_rtx_bindings

        return tensorrt_rtx_bindings


def _unloadable(kind: str, error: Exception) -> EngineError:
    return EngineError(
        "'{}' is installed but does not load: {}.".format(kind, error),
        hint="a missing libnvinfer or libcudart means that TensorRT and CUDA do not belong "
        "together, or that a container runs without --runtime nvidia; see merino-edge doctor.",
    )


_LOGS: MutableMapping[Any, Any] = weakref.WeakKeyDictionary()  # module -> its log


def _log_of(module: Any, on_line: Optional[OnLine]) -> Any:
    """The log of this process, empty; what is said from now on goes to ``on_line``."""
    if module in _LOGS:
        LogLines.__init__(_LOGS[module], on_line)
    else:
        _LOGS[module] = _new_log(module, on_line)
    return _LOGS[module]


def _new_log(module: Any, on_line: Optional[OnLine]) -> Any:
    base: Any = module.ILogger

    class EngineLog(LogLines, base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)  # by name: the bindings insist on it
            LogLines.__init__(self, on_line)

    return EngineLog()


def _numbers(version: str) -> Tuple[int, ...]:
    numbers: List[int] = [int(part) for part in re.findall(r"\d+", version)]
    return tuple(numbers)
