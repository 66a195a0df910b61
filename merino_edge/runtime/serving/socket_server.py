"""JSON lines over a UNIX socket: a file that programs on the same board talk to.

The one idea: who may ask is who may write the file. The socket has mode 0600, so only its owner
(and root) may, until somebody widens it on purpose; there is no token and no port. A file that a
crashed server left behind is replaced, one that a living server listens on is not, and neither is
anything that is no socket.

::

    with Scheduler(open_sessions("bundle/")) as scheduler:
        with SocketServer(scheduler, "/run/merino-edge/socket"):
            wait_for_a_signal()

The protocol is told in ``jetson/firmware/PROTOCOL.md``. This module knows no JSON.
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
import threading
import time
from typing import Any, Callable, Dict, Set

from merino_edge.errors import BusyError, UsageError
from merino_edge.runtime.serving.scheduler import Scheduler
from merino_edge.runtime.serving.socket_connection import Connection
from merino_edge.runtime.serving.socket_events import error_line

MAX_CONNECTIONS = 16
MAX_PATH_BYTES = 107  # sun_path of Linux, with its closing zero
MODE = 0o600
BACKLOG = 16


class SocketServer:
    """Listens on a path, in threads of its own, until it is stopped.

    Args:
        scheduler: Runs the requests; whoever made it closes it, after this.
        path: Where the socket is to be.
        max_connections: Clients at a time; one more is told so and left.
        on_note: Called with one line about what is worth a log.

    Raises:
        UsageError: The path cannot be a socket, or somebody listens there.
        OSError: The folder cannot be written.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        path: str,
        max_connections: int = MAX_CONNECTIONS,
        on_note: Callable[[str], None] = lambda text: None,
    ):
        self.path = path
        self._scheduler, self._max_connections, self._note = scheduler, max_connections, on_note
        self._begun_s, self._n_connected = time.monotonic(), 0
        self._connections: Set[Connection] = set()
        self._changed = threading.Condition()  # guards _connections
        self._stopping = False
        self._listener = listen(path)
        self._inode = os.stat(path).st_ino
        self._thread = threading.Thread(target=self._accept_all, name="socket", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leave all clients, end what they asked for, and remove the file if it is still ours."""
        self._stopping = True
        _shut(self._listener)
        self._thread.join()
        self._listener.close()
        with self._changed:
            for connection in self._connections:
                connection.leave()
            while self._connections:
                self._changed.wait()
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)

    def stats(self) -> Dict[str, Any]:
        """What a client may know of the whole."""
        return {
            "connections": len(self._connections),
            "connections_before": self._n_connected - len(self._connections),
            "sessions": len(self._scheduler.sessions),
            "running": self._scheduler.n_running,
            "waiting": self._scheduler.n_waiting,
            "uptime_s": round(time.monotonic() - self._begun_s, 1),
        }

    def __enter__(self) -> "SocketServer":
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop()

    def _accept_all(self) -> None:
        while not self._stopping:
            try:
                sock, _ = self._listener.accept()
            except OSError as error:
                if not self._stopping:  # too many open files, most likely: others will close some
                    self._note("no connection could be taken: {}".format(error))
                    time.sleep(0.1)
                continue
            self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        with self._changed:
            if len(self._connections) >= self._max_connections:
                return _refuse(sock, self._max_connections)
            self._n_connected += 1
            name = "socket {}".format(self._n_connected)
            connection = Connection(sock, self._scheduler, name, self.stats)
            self._connections.add(connection)
        threading.Thread(target=self._run, args=(connection,), name=name, daemon=True).start()

    def _run(self, connection: Connection) -> None:
        try:
            connection.run()
        finally:
            with self._changed:
                self._connections.discard(connection)
                self._changed.notify_all()


def listen(path: str) -> socket.socket:
    """A socket that listens at a path, with mode 0600.

    Raises:
        UsageError: As ``SocketServer``.
    """
    if not 0 < len(os.fsencode(path)) <= MAX_PATH_BYTES:
        raise UsageError(
            "a socket's path has 1 to {} bytes, this has {}.".format(
                MAX_PATH_BYTES, len(os.fsencode(path))
            ),
            hint="choose a shorter one, as /run/merino-edge/socket.",
        )
    folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # of two that start together one finds the other's
        _remove_stale(path)
        return _bound(path)
    finally:
        os.close(folder)


def _bound(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        os.chmod(path, MODE)  # before listen(), so there is no moment in which others may connect
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError(
            "'{}' exists and is no socket.".format(path), hint="choose another path, or remove it."
        )
    if _answers(path):
        raise UsageError(
            "another server listens on '{}'.".format(path),
            hint="stop it, or choose another --socket.",
        )
    os.unlink(path)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError as error:
            # only a refusal is proof that nobody is there: a full backlog says "try again"
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
    return True


def _refuse(sock: socket.socket, most: int) -> None:
    error = BusyError("{} clients are connected, no more may.".format(most), "client")
    with sock:
        sock.settimeout(1.0)
        with contextlib.suppress(OSError):  # it did not wait for the answer
            sock.sendall(error_line(error))


def _shut(listener: socket.socket) -> None:
    """Wakes a thread that waits in accept()."""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
