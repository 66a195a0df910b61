"""The listening socket: a thread for each connection, and no more connections than allowed.

The one idea: at the limit a few more connections are still taken, only to be told so (and to
answer a health check: a watchdog must not take a busy server for a dead one); beyond those they are
closed at once. So strangers can neither take all threads nor hide the server.
"""

import contextlib
import socket
import socketserver
import threading
import traceback
from typing import Any, Callable, Iterator, Set

from merino_edge.runtime.serving.web.endpoints import Api
from merino_edge.runtime.serving.web.handler import Handler

SPARE = 8  # connections beyond the limit that are told about it


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves an Api at an address.

    Args:
        host: Name or address to bind.
        port: 0 for any that is free; ``port`` has it.
        api: What it serves.
        on_fault: Told, with a traceback, of what is a bug of ours.
    """

    daemon_threads = True
    block_on_close = False  # of Python 3.7 and later, which would keep a list of all threads
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, api: Api, on_fault: Callable[[str], None] = lambda text: None
    ):
        self.api, self.on_fault = api, on_fault
        self._places = threading.BoundedSemaphore(api.limits.connections)
        self._spare = threading.BoundedSemaphore(SPARE)
        self._lock = threading.Lock()
        self._crowded: Set[int] = set()  # file descriptors of connections that are too many
        self._n_open = 0
        self._resting: Set[socket.socket] = set()
        self.is_stopping = False
        self._stopped = False
        self._idle = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._accept, name="accept", daemon=True)
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), Handler)

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self.server_address[1])

    @property
    def n_open(self) -> int:
        """Connections now."""
        return self._n_open

    def start(self) -> None:
        """Accept connections, in a thread of its own."""
        self._thread.start()

    def stop_accepting(self) -> None:
        """No new connections; those that are open go on. Calling twice is allowed."""
        if not self._stopped:
            self._stopped = True
            self.shutdown()
            self.server_close()
            self._thread.join()

    def hang_up(self) -> None:
        """Connections without a request are closed; the others after their answer."""
        with self._lock:
            self.is_stopping = True
            for connection in self._resting:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # its thread reads the end

    @contextlib.contextmanager
    def resting(self, connection: socket.socket) -> Iterator[None]:
        """Around a wait for a request that may never come."""
        with self._lock:
            self._resting.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._resting.discard(connection)

    def wait_until_idle(self, seconds: float) -> bool:
        """Whether all connections were closed within so long."""
        with self._lock:
            return self._idle.wait_for(lambda: not self._n_open, seconds)

    def is_crowded(self, connection: socket.socket) -> bool:
        """Whether this connection is one too many."""
        return connection.fileno() in self._crowded

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give it a thread, if there is a place."""
        request.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        is_spare = not self._places.acquire(False)
        if is_spare and not self._spare.acquire(False):
            self.shutdown_request(request)
            return
        with self._lock:
            self._n_open += 1
            if is_spare:
                self._crowded.add(request.fileno())
        try:
            super().process_request(request, client_address)
        except BaseException:  # no more threads
            self._leave(request.fileno())
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, to its end; the descriptor is known by then to nobody else."""
        descriptor = request.fileno()
        try:
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
        finally:
            self._leave(descriptor)
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """What nobody expected."""
        self.on_fault(traceback.format_exc())

    def _leave(self, descriptor: int) -> None:
        with self._lock:
            is_spare = descriptor in self._crowded
            self._crowded.discard(descriptor)
            self._n_open -= 1
            self._idle.notify_all()
        (self._spare if is_spare else self._places).release()

    def _accept(self) -> None:
        self.serve_forever(poll_interval=0.2)
