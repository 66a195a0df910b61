"""One connection to a board, through OpenSSH's own client.

The one idea: keys, agent, known hosts and ``~/.ssh/config`` are the user's and ssh knows them
better than any library, so we run ``ssh`` and ask it for nothing but batch mode. A master process
holds the connection and every command is a channel of it, so that a command costs a round trip and
not a handshake; where a master is not possible, each command connects by itself.

What runs on the board are short POSIX shell scripts of ours, with the user's words as quoted
arguments, never as a part of a script. This module does not know what they do.
"""

import contextlib
import os
import select
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from merino_edge.errors import BoardError, UsageError
from merino_edge.pipeline.remote.link_errors import ConnectionLost, link_error

# ssh notices within 15 s that the other end is gone; its default is never.
_SETTINGS = (
    "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3", "RequestTTY=no",
    "ClearAllForwardings=yes", "RemoteCommand=none", "PermitLocalCommand=no", "ControlPersist=no",
)  # fmt: skip
_FAILED = 255  # ssh's own code; none of our scripts ends with it
# What a login script prints comes before this line, what ours prints comes after it.
_MARK = b"merino-edge: begin\n"
_MASTER_TIMEOUT_S = 120.0
_LONGEST_SOCKET_PATH = 80  # of the 104 to 108 that systems allow; ssh needs room for a suffix
_CHUNK_BYTES = 1 << 16


class Output(NamedTuple):
    """What a script left behind."""

    code: int
    stdout: str
    stderr: str


class Session:
    """A script that runs on the board now.

    Attributes:
        stdin: Where its input goes; None if it was given none.
    """

    def __init__(self, host: str, process: "subprocess.Popen[bytes]", stderr: IO[bytes]):
        self._host = host
        self._process = process
        self._stderr = stderr
        self.stdin = process.stdin

    def chunks(self, tick_s: float) -> Iterator[bytes]:
        """The script's output as it comes, and b"" whenever ``tick_s`` seconds pass without any."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        head, begun = b"", False
        while True:
            ready = select.select([pipe], [], [], tick_s)[0]
            data = os.read(pipe, _CHUNK_BYTES) if ready else b""
            if ready and not data:
                return
            if not begun:
                head += data
                _, mark, data = head.partition(_MARK)
                begun = bool(mark)
            yield data

    def finish(self, stdout: bytes = b"") -> Output:
        """Wait for the end of a script whose output was read.

        Raises:
            BoardError: The connection failed; ConnectionLost if it may come back.
        """
        if self.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.close()
        code = self._process.wait()
        self._stderr.seek(0)
        stderr = self._stderr.read().decode("utf-8", "replace")
        if code == _FAILED or code < 0:  # ssh itself failed, or somebody killed it
            raise link_error(self._host, stderr)
        return Output(code, stdout.decode("utf-8", "replace"), stderr)


class Ssh:
    """A connection to ``host``; a context manager that closes it.

    Args:
        host: As for ssh: user@name, or an alias of ~/.ssh/config.
        options: Settings of ssh_config, such as "Port=2222"; they go before ours.

    Raises:
        UsageError: The host is empty, or would be taken for an option.
    """

    def __init__(self, host: str, options: Sequence[str] = ()):
        if not host or host.startswith("-") or not host.isprintable() or " " in host:
            raise UsageError(
                f"--host {host!r} is not the name of a board.", hint="--host user@board"
            )
        self.host = host
        self._options = tuple(options)
        self._folder: str | None = None
        self._master: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Ssh":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> None:
        """Connect, or connect again.

        Raises:
            BoardError: ssh is missing here, or does not get through; ConnectionLost if it may
                later.
        """
        self.close()
        self._folder = tempfile.mkdtemp(prefix="merino-ssh-")
        if os.name == "posix" and len(self._socket) <= _LONGEST_SOCKET_PATH:
            self._start_master()
        self.run("exit 0")

    def close(self) -> None:
        """End the connection; a second close is fine."""
        if self._master is not None:
            _end(self._master)
            self._master = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def run(self, script: str, *words: str) -> Output:
        """Run a shell script with arguments and wait for it.

        Raises:
            BoardError: The connection failed; ConnectionLost if it may come back.
        """
        with self.session(script, *words) as session:
            return session.finish(b"".join(session.chunks(tick_s=60.0)))

    @contextlib.contextmanager
    def session(self, script: str, *words: str, feed: bool = False) -> Iterator[Session]:
        """Run a shell script while the block runs; its end on this side comes with the block's.

        Args:
            script: For ``sh``; its arguments are $1, $2, ...
            words: The arguments.
            feed: Whether the script will read an input.
        """
        begin = f"printf '%s' {shlex.quote(_MARK.decode())}\n"
        command = shlex.join(("exec", "sh", "-c", begin + script, "merino-edge", *words))
        arguments = [*self._arguments("no"), "--", self.host, command]
        with tempfile.TemporaryFile() as stderr:
            process = _start(arguments, subprocess.PIPE if feed else subprocess.DEVNULL, stderr)
            try:
                yield Session(self.host, process, stderr)
            finally:
                _end(process)

    @property
    def _socket(self) -> str:
        return os.path.join(self._folder or "", "s")

    def _arguments(self, master: str) -> list[str]:
        path = self._socket if self._master is not None or master == "yes" else "none"
        settings = ("BatchMode=yes", f"ControlMaster={master}", *self._options, *_SETTINGS)
        options = [word for setting in settings for word in ("-o", setting)]
        return ["ssh", "-S", path.replace("%", "%%"), *options]

    def _start_master(self) -> None:
        with tempfile.TemporaryFile() as stderr:
            arguments = [*self._arguments("yes"), "-N", "--", self.host]
            self._master = _start(arguments, subprocess.DEVNULL, stderr)
            deadline = time.monotonic() + _MASTER_TIMEOUT_S
            while not os.path.exists(self._socket):
                if self._master.poll() is not None:
                    self.close()
                    stderr.seek(0)
                    raise link_error(self.host, stderr.read().decode("utf-8", "replace"))
                if time.monotonic() > deadline:
                    raise ConnectionLost(f"'{self.host}' does not answer.")
                time.sleep(0.02)


def _start(arguments: list[str], stdin: int, stderr: IO[bytes]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            arguments, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, bufsize=0
        )
    except FileNotFoundError:
        raise BoardError(
            "there is no 'ssh' on this machine; reaching a board needs OpenSSH's client.",
            hint="sudo apt install openssh-client",
        )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process of ours that may have ended already, and close our ends of its pipes."""
    process.terminate()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
