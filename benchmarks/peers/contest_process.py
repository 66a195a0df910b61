"""The parent's side of a contestant: start it, ask it, see whether it really sleeps.

The one idea: whatever happens to a contestant (an import that fails, a crash, a question without
an answer) becomes a ``ContestantError`` with the last words of its stderr, and the others go on.
"""

import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHILD = Path(__file__).resolve().parent / "child.py"
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
LAST_WORDS = 300


class ContestantError(Exception):
    """A contestant is out, with the reason."""


def environment(threads: int, python_path: str = "") -> dict[str, str]:
    """Of all contestants: as many threads for everybody, BLAS's kernels as it would choose.

    OPENBLAS_CORETYPE and its like, where a machine sets them, choose kernels for old versions.
    """
    found = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    found.update({f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL")})
    found.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", OPENBLAS_NUM_THREADS="1")
    if python_path:
        found["PYTHONPATH"] = python_path
    return found


class ContestProcess:
    """A running contestant.

    Args:
        python: The interpreter that has its runtime.
        adapter: A module of ``adapters``.
        options: Arguments of its ``Runtime``.
        env: Its environment.
        log: File for its stderr.
        timeout_s: Longest wait for an answer.
    """

    def __init__(
        self,
        python: str,
        adapter: str,
        options: Mapping[str, Any],
        env: Mapping[str, str],
        log: str,
        timeout_s: float = 180.0,
    ):
        self.started_s = time.perf_counter()
        self._log, self.timeout_s = log, timeout_s
        with open(log, "wb") as stderr:
            self._process = subprocess.Popen(
                [python, str(CHILD), adapter, json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=dict(env),
                text=True,
            )
        self.peak_bytes = 0
        self._slept_from: tuple[float, float] | None = None
        self.slept_s = self.cpu_while_asleep_s = 0.0

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """One question.

        Raises:
            ContestantError: It failed, died, or did not answer in time.
        """
        self._count_sleep()
        try:
            self._process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failure(f"it died before '{do}'") from None
        answer = self._answer(do)
        self.peak_bytes = answer.get("peak_bytes", self.peak_bytes)
        if "error" in answer:
            raise self._failure(f"{do}: {answer['error']}", False)
        return answer

    def settle(self, seconds: float) -> None:
        """Let its threads fall asleep; from here on, the CPU time that it uses is counted."""
        time.sleep(seconds)
        self._slept_from = time.perf_counter(), self.cpu_s()

    def cpu_s(self) -> float:
        """CPU time of all its threads so far, to a hundredth of a second."""
        try:
            text = Path(f"/proc/{self._process.pid}/stat").read_text("ascii")
        except OSError:
            return 0.0
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) * _TICK_S

    def kill(self) -> None:
        """End it at once; ``close`` still has to be called."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it, politely or not."""
        if self._process.poll() is None:
            try:
                self.ask("close")
                self._process.wait(5.0)
            except (ContestantError, subprocess.TimeoutExpired):
                self.kill()
        self._process.wait()
        self._process.stdout.close()
        with contextlib.suppress(OSError):  # a question that nobody read is still in the pipe
            self._process.stdin.close()

    def _count_sleep(self) -> None:
        if self._slept_from is not None:
            since, cpu_s = self._slept_from
            self.slept_s += time.perf_counter() - since
            self.cpu_while_asleep_s += self.cpu_s() - cpu_s
            self._slept_from = None

    def _answer(self, do: str) -> dict[str, Any]:
        ready, _, _ = select.select([self._process.stdout], [], [], self.timeout_s)
        if not ready:
            self.kill()
            raise self._failure(f"no answer to '{do}' within {self.timeout_s:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise self._failure(f"it died during '{do}'")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _failure(self, what: str, with_words: bool = True) -> ContestantError:
        words = Path(self._log).read_text("utf-8", "replace").strip()[-LAST_WORDS:]
        tail = f"; its last words: {words!r}" if words and with_words else ""
        return ContestantError(what + tail)
