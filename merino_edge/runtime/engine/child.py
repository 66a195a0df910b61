"""The process that builds: ``python -m merino_edge.runtime.engine.child REQUEST.json``.

The one idea: a build may be killed for its memory, crash in native code or run for an hour, and
none of it may take the application with it. So it lives in a process of its own, which says what it
does in JSON lines on stdout, leaves stderr to whoever shouts, and dies when its parent does.
The plan is written beside its place, flushed to the disk, and renamed.
"""

import contextlib
import ctypes
import hashlib
import os
import signal
import sys
import threading
import traceback
from typing import Any, Callable, List, Tuple

from merino_edge.errors import MerinoError
from merino_edge.runtime.device_info import meminfo_bytes
from merino_edge.runtime.engine.builder import BuiltPlan, build_plan
from merino_edge.runtime.engine.door import open_tensorrt
from merino_edge.runtime.engine.messages import (
    ChildRequest,
    PlanReport,
    error_fields,
    packed,
    partial_path,
    read_request,
)
from merino_edge.runtime.memory import peak_rss_bytes

_PR_SET_PDEATHSIG = 1
_CHUNK_BYTES = 4 << 20


class MemoryWatch:
    """Looks at the machine's available memory every second while others work.

    Attributes:
        lowest_bytes: Least that was seen.
        warnings: One, if it fell below the floor.
    """

    def __init__(self, floor_bytes: int, say: Callable[[str], None]):
        self.lowest_bytes = available_bytes()
        self.warnings: List[str] = []
        self._floor_bytes = floor_bytes
        self._say = say
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._thread.join()

    def look(self) -> None:
        """Look once."""
        self.lowest_bytes = min(self.lowest_bytes, available_bytes())
        if self.lowest_bytes < self._floor_bytes and not self.warnings:
            text = "only {} MB of memory are available; the build may swap, or be killed.".format(
                self.lowest_bytes // 10**6
            )
            self.warnings.append(text)
            self._say("warning: " + text)

    def _watch(self) -> None:
        self.look()
        while not self._done.wait(1.0):
            self.look()


def available_bytes() -> int:
    """Memory that programs can have without swapping; 0 where Linux does not tell."""
    return meminfo_bytes("/").get("MemAvailable", 0)


def main(arguments: List[str]) -> int:
    """Build what the file asks for; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who then ends us
    send = _take_stdout()
    try:
        request = read_request(arguments[0])
        _die_with(request.parent_pid)
        report = build(request, lambda text: send(packed("line", text=text)))
    except (MerinoError, OSError) as error:
        send(packed(**error_fields(error)))
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    send(packed("report", report=report._asdict()))
    return 0


def build(request: ChildRequest, say: Callable[[str], None]) -> PlanReport:
    """Build and write a plan.

    Raises:
        MerinoError: As ``build_plan`` and ``open_tensorrt``.
        OSError: The plan cannot be written; what was there is intact.
    """
    before = available_bytes()
    library = open_tensorrt(request.build.backend, say)
    with MemoryWatch(request.floor_bytes, say) as watch:
        built = build_plan(library, request.build)
        say("writing the engine")
        sha256, n_bytes = write_plan(built, request.plan_path)
    return PlanReport(
        plan_sha256=sha256,
        plan_bytes=n_bytes,
        tensorrt=library.version_text,
        build_s=built.build_s,
        peak_rss_bytes=peak_rss_bytes(),
        available_before_bytes=before,
        lowest_available_bytes=min(before, watch.lowest_bytes),
        n_skipped_tactics=library.log.n_skipped_tactics,
        n_fp32_layers=built.n_fp32_layers,
        warnings=built.warnings + watch.warnings,
        memory_log=list(library.log.memory),
    )


def write_plan(built: BuiltPlan, plan_path: str) -> Tuple[str, int]:
    """Write a plan whole or not at all; returns its SHA-256 and its size.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    partial = partial_path(plan_path)
    data, digest = memoryview(built.plan), hashlib.sha256()
    try:
        with open(partial, "wb") as stream:
            for start in range(0, len(data), _CHUNK_BYTES):
                digest.update(data[start : start + _CHUNK_BYTES])
                stream.write(data[start : start + _CHUNK_BYTES])
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, plan_path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        error.filename = error.filename or plan_path
        raise
    return digest.hexdigest(), len(data)


def _take_stdout() -> Callable[[bytes], None]:
    """Keep stdout for messages; whatever native code prints there goes to stderr from now on."""
    private = os.dup(1)
    os.dup2(2, 1)
    lock = threading.Lock()  # the log and the memory watch write from threads of their own

    def send(line: bytes) -> None:
        with lock:
            while line:
                line = line[os.write(private, line) :]

    return send


def _die_with(parent_pid: int) -> None:
    """Have Linux end this process with its parent, even while it is deep in native code."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it ended before we could ask
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
