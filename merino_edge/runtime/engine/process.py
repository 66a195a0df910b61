"""A build in a process of its own, watched from here.

The one idea: the parent sees what the child cannot tell: that it lives (time, resident memory, its
last line), and why it died. A process that Linux kills for its memory leaves nothing but signal 9;
together with the kernel's own count of such kills that is enough to say so, and where there is no
count the message says "probably".

Known limit: the child ends with the *thread* that started it (Linux ties it so); wait in the thread
that builds.
"""

import collections
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, Any, Callable, Deque, Dict, Iterator, NamedTuple, NoReturn, Optional

from merino_edge.errors import DeviceMemoryError, EngineError
from merino_edge.formats import jsonio
from merino_edge.runtime.device_info import meminfo_bytes, read_text
from merino_edge.runtime.engine.builder import looks_out_of_memory
from merino_edge.runtime.engine.messages import (
    ChildRequest,
    PlanReport,
    partial_path,
    revived,
)
from merino_edge.runtime.engine.preflight import FLOOR_BYTES, WHAT_HELPS, oom_kills
from merino_edge.runtime.engine.request import BuildRequest

BEAT_S = 1.0
_PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))


class Beat(NamedTuple):
    """A sign of life.

    Attributes:
        elapsed_s: Since the build began.
        rss_bytes: Memory that the child holds; None where Linux does not tell.
        available_bytes: Memory that the machine has left.
        line: What the child said last.
    """

    elapsed_s: float
    rss_bytes: Optional[int]
    available_bytes: int
    line: str

    def __str__(self) -> str:
        """How the build goes, on one line."""
        held = "" if self.rss_bytes is None else ", {} MB held".format(self.rss_bytes // 10**6)
        return "building the engine: {:.0f} s{}, {} MB free: {}".format(
            self.elapsed_s, held, self.available_bytes // 10**6, self.line
        )


OnBeat = Callable[[Beat], None]


def build_in_child(
    request: BuildRequest,
    plan_path: str,
    on_beat: Optional[OnBeat] = None,
    floor_bytes: int = FLOOR_BYTES,
) -> PlanReport:
    """Build a plan in a child process and wait for it.

    Args:
        request: What to build.
        plan_path: Where the plan shall stand; what is there stays until the new one is whole.
        on_beat: Called with each line of the child, and every second.
        floor_bytes: Available memory below which the child warns.

    Raises:
        MerinoError: As ``build_plan`` in the child.
        DeviceMemoryError: Linux killed the child for its memory.
        EngineError: The child crashed; with its last words.
        OSError: The plan could not be written.
    """
    asked = ChildRequest(request, os.path.abspath(plan_path), os.getpid(), floor_bytes)
    with tempfile.TemporaryDirectory(prefix="merino-edge-") as folder:
        path = os.path.join(folder, "request.json")
        jsonio.write_bytes_atomic(path, jsonio.dumps(jsonio.encode(asked)).encode("utf-8"))
        with open(os.path.join(folder, "stderr"), "w+b") as shouts:
            try:
                return _Watched(path, shouts, on_beat).wait()
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(partial_path(plan_path))


class _Watched:
    """A running child and what was seen of it."""

    def __init__(self, request_path: str, shouts: IO[bytes], on_beat: Optional[OnBeat]):
        self._start = time.monotonic()
        self._shouts = shouts
        self._on_beat = on_beat or (lambda beat: None)
        self._lines: Deque[str] = collections.deque(["starting"], maxlen=10)
        self._most_rss_bytes = 0
        self._least_available_bytes = _available_bytes()
        self._kills_before = oom_kills()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "merino_edge.runtime.engine.child", request_path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=shouts,
            env=_environment(),
        )

    def wait(self) -> PlanReport:
        """Beat until the child is done; whatever happens, no child is left behind."""
        final: Dict[str, Any] = {}
        try:
            for message in _messages(self._child):
                if message.get("kind") == "line":
                    self._lines.append(message["text"])
                elif message:
                    final = message
                self._beat()
            code = self._child.wait()
        finally:
            if self._child.poll() is None:
                self._child.kill()
                self._child.wait()
        if final.get("kind") in ("error", "os_error"):
            raise revived(final)
        if code != 0 or final.get("kind") != "report":
            self._explain(code)
        report: PlanReport = jsonio.decode(PlanReport, final["report"])
        return report

    def _beat(self) -> None:
        rss_bytes, available_bytes = _rss_bytes(self._child.pid), _available_bytes()
        self._most_rss_bytes = max(self._most_rss_bytes, rss_bytes or 0)
        self._least_available_bytes = min(self._least_available_bytes, available_bytes)
        elapsed_s = time.monotonic() - self._start
        self._on_beat(Beat(elapsed_s, rss_bytes, available_bytes, self._lines[-1]))

    def _explain(self, code: int) -> NoReturn:
        self._shouts.seek(0)
        words = self._shouts.read().decode("utf-8", "replace").strip().split("\n")[-10:]
        last = " | ".join(line for line in list(self._lines)[-3:] + words if line)
        if code == -signal.SIGKILL:
            self._refuse("the build was killed ({}).".format(_killer(self._kills_before)))
        if looks_out_of_memory(last):
            self._refuse("the build ended for lack of memory: {}".format(last))
        how = "crashed: " + _signal_name(-code) if code < 0 else "ended with code {}".format(code)
        raise EngineError(
            "the build {}.".format(how),
            note="its last lines: {}".format(last),
            hint="if it happens again, build with other --workspace or tactic sources.",
        )

    def _refuse(self, message: str) -> NoReturn:
        raise DeviceMemoryError(
            "{} It held {} MB when last seen.".format(message, self._most_rss_bytes // 10**6),
            needed_bytes=self._most_rss_bytes,
            free_bytes=self._least_available_bytes,
            hint=WHAT_HELPS,
        )


def _messages(child: "subprocess.Popen[bytes]") -> Iterator[Dict[str, Any]]:
    """Messages as they come, and an empty one whenever a second passed without any."""
    lines: "queue.Queue[bytes]" = queue.Queue()
    stdout = child.stdout
    assert stdout is not None

    def read() -> None:
        with stdout:
            for line in stdout:
                lines.put(line)
        lines.put(b"")

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=BEAT_S)
        except queue.Empty:
            yield {}
            continue
        if not line.endswith(b"\n"):  # the end, perhaps in the middle of a word
            return
        yield json.loads(line.decode("ascii"))


def _environment() -> Dict[str, str]:
    """Ours, with this very package importable wherever the child starts."""
    paths = [_PACKAGE_ROOT, os.environ.get("PYTHONPATH", "")]
    return dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in paths if path))


def _killer(kills_before: Optional[int]) -> str:
    kills = oom_kills()
    if kills is None or kills_before is None:
        return "probably by Linux, for its memory; this kernel keeps no count that would prove it"
    if kills > kills_before:
        return "by Linux, for its memory"
    return "by someone, not by Linux for its memory as far as its count tells"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal {}".format(number)


def _rss_bytes(pid: int) -> Optional[int]:
    for line in (read_text("/", "/proc/{}/status".format(pid)) or "").split("\n"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return None


def _available_bytes() -> int:
    return meminfo_bytes("/").get("MemAvailable", 0)
