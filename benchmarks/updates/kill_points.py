"""Killing a command at each system call by which it changes the store.

The one idea: strace first lists the calls of an undisturbed run, then runs the command again for
each of them and sends SIGKILL as that call begins; so the calls before it happened and it did not.
A process that is killed has lost nothing that it wrote, since the kernel has it: what a power cut
takes besides is the matter of ``lost_writes``.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CALLS = (
    "openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,symlink,symlinkat,link,linkat,"
    "unlink,unlinkat,mkdir,mkdirat,rmdir,chmod,fchmod,fchmodat,ftruncate,truncate,flock"
)
_CALL = re.compile(r"^(\w+)\((.*)$")


class KillPoint(NamedTuple):
    """One system call of a command.

    Attributes:
        call: Its name.
        number: The how manieth call of this name.
        text: As strace tells it, the store written as STORE.
    """

    call: str
    number: int
    text: str


def kill_points(words: list[str], store: str, log: Path) -> tuple[int, list[KillPoint]]:
    """Run a command; its exit code, and every call by which it changed the store."""
    code = _strace(words, log, [])
    seen: dict[str, int] = {}
    points = []
    for line in log.read_text("utf-8", "replace").splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        seen[match[1]] = seen.get(match[1], 0) + 1
        if store in line and _writes(match[1], line):
            points.append(KillPoint(match[1], seen[match[1]], _told(line, store)))
    return code, points


def run_killed(words: list[str], store: str, log: Path, point: KillPoint) -> str:
    """Run a command until a point, and kill it there; the call that was the last, as text.

    Raises:
        RuntimeError: It was not killed.
    """
    inject = ["-e", f"inject={point.call}:signal=KILL:when={point.number}"]
    code = _strace(words, log, inject)
    lines = log.read_text("utf-8", "replace").splitlines()
    if code != -9 and "killed by SIGKILL" not in lines[-1]:
        raise RuntimeError(f"{words} was not killed at {point}, it ended with {code}")
    calls = [line for line in lines if _CALL.match(line)]
    return _told(calls[-1], store)


def _strace(words: list[str], log: Path, inject: list[str]) -> int:
    command = ["strace", "-y", "-o", str(log), "-e", f"trace={CALLS}", *inject]
    program = [sys.executable, "-m", "merino_edge", *words]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command + program, env=env, capture_output=True, cwd="/")
    return done.returncode


def _writes(call: str, line: str) -> bool:
    if call == "flock":
        return False
    return call != "openat" or any(flag in line for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))


def _told(line: str, store: str) -> str:
    """Without what differs from run to run: the store's path, results, data, numbers of pipes."""
    text = re.sub(r"\s*(= .*|<unfinished .*|resumed.*)$", "", line.replace(store, "STORE"))
    text = re.sub(r"<pipe:\[\d+\]>", "<pipe>", text)
    return re.sub(r'(?<=, )".*', "DATA)", text) if line.startswith("write") else text
