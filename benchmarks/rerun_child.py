"""One command in a session of its own: what it says goes to a file, and it never outlives us.

The one idea: a script starts processes itself (servers, builds, contestants), so whoever stops it
has to stop a whole session. It is asked politely first, since many keep what they have.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

LOOK_EVERY_S = 0.5
# Together less than the ten seconds that others grant us between asking and killing.
MANNERS = ((signal.SIGINT, 5.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 1.0))


def run_child(
    argv: list[str],
    env: dict[str, str],
    folder: Path,
    log: Path,
    limit_s: float,
    tell: Callable[[float], None],
) -> int:
    """Run a command in a session of its own, with all it says in a file.

    Args:
        argv: The command.
        env: Its environment.
        folder: Where it runs.
        log: Grows by what it says.
        limit_s: After which it is stopped.
        tell: Told every moment how many seconds have passed.

    Returns:
        Its exit code.

    Raises:
        TimeoutExpired: It took too long.
        KeyboardInterrupt: Somebody wants to stop; it is stopped, too, with all that it started.
    """
    start = time.monotonic()
    with log.open("ab") as stream:
        stream.write(f"$ {shlex.join(argv)}\n".encode())
        stream.flush()
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(LOOK_EVERY_S)
            seconds = time.monotonic() - start
            tell(seconds)
            if seconds > limit_s:
                raise subprocess.TimeoutExpired(argv, limit_s)
    except BaseException:
        _stop(process)
        raise


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask the whole session to end, and end it if it does not."""
    for number, patience_s in MANNERS:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    process.wait()


def last_line(log: Path) -> str:
    """What a stage said last."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 2000))
        lines = stream.read().decode("utf-8", "replace").splitlines()
    said = (line.strip() for line in reversed(lines) if not line.startswith("$ "))
    return next(filter(None, said), "")[-160:]
