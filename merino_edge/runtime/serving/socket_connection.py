"""One client of the socket: its lines in, the events of its requests out.

The one idea: a thread reads lines for as long as the client stays, and each open request has a
thread that carries its events. All write through one lock, a whole line at a time. A client that
leaves, or that does not read for ``SEND_TIMEOUT_S``, has its requests cancelled: nobody wants their
rest. What a client may have open is bounded, and so are the threads and the memory that it takes.
"""

import contextlib
import socket
import threading
from typing import Any, Callable, Dict, Iterator, Optional

from merino_edge.errors import BusyError, MerinoError
from merino_edge.runtime.sampling import GenerationConfig
from merino_edge.runtime.serving.job import End, Piece, Request, Ticket
from merino_edge.runtime.serving.scheduler import Scheduler
from merino_edge.runtime.serving.socket_events import (
    end_line,
    error_line,
    hello,
    line_of,
    token_lines,
)
from merino_edge.runtime.serving.socket_requests import MAX_LINE_BYTES, Ask, Id, LineError, ask_of

RECEIVE_BYTES = 16 << 10
SEND_TIMEOUT_S = 10.0
MAX_REQUESTS = 8

Stats = Callable[[], Dict[str, Any]]


class Connection:
    """Serves one accepted socket until it ends.

    Args:
        sock: The client; closed at the end.
        scheduler: Runs the requests.
        name: Whose requests these are, for the fair queue.
        stats: What the op "stats" answers.
        max_requests: Requests that may be open at a time.
    """

    def __init__(
        self,
        sock: socket.socket,
        scheduler: Scheduler,
        name: str,
        stats: Stats,
        max_requests: int = MAX_REQUESTS,
    ):
        self._sock, self._scheduler, self._name = sock, scheduler, name
        self._stats, self._max_requests = stats, max_requests
        self._open: Dict[Id, Ticket] = {}
        self._n_carriers = 0
        self._changed = threading.Condition()  # guards both
        self._sending = threading.Lock()
        sock.settimeout(SEND_TIMEOUT_S)

    def run(self) -> None:
        """Talk until the client leaves or ``leave`` is called; then nothing of it is open."""
        try:
            self._send(hello(self._scheduler.sessions[0], self._max_requests))
            for line in self._lines():
                self._answer(line)
        except OSError:
            pass  # gone, or too slow: the same
        finally:
            self._cancel_all()
            with self._sending:  # not while another thread writes: the number is soon another's
                self._sock.close()

    def leave(self) -> None:
        """Hear no more, from any thread; what was asked ends, and its last lines go out."""
        self._shut(socket.SHUT_RD)

    def _shut(self, how: int) -> None:
        with contextlib.suppress(OSError):  # it had ended
            self._sock.shutdown(how)

    def _lines(self) -> Iterator[bytes]:
        """Lines without their ends; of one that is too long, only that it was."""
        held, is_dropping = b"", False
        while True:
            part = self._receive()
            if not part:
                return
            *lines, held = (held + part).split(b"\n")
            for line in lines:
                if not is_dropping and self._is_taken(line):
                    yield line
                is_dropping = False
            is_dropping = is_dropping or not self._is_taken(held)
            if is_dropping:
                held = b""

    def _is_taken(self, line: bytes) -> bool:
        if len(line) > MAX_LINE_BYTES:
            self._send(error_line(_too_long()))
        return len(line) <= MAX_LINE_BYTES

    def _receive(self) -> bytes:
        while True:
            try:
                return self._sock.recv(RECEIVE_BYTES)
            except socket.timeout:
                continue  # silence is no offence

    def _answer(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            ask = ask_of(line)
        except LineError as error:
            return self._send(error_line(error, error.ask_id))
        try:
            self._do(ask)
        except MerinoError as error:
            self._send(error_line(error, ask.id))

    def _do(self, ask: Ask) -> None:
        if ask.op in ("generate", "chat"):
            self._begin(ask)
        elif ask.op == "cancel":
            self._cancel(ask.id)
        elif ask.op == "reset":
            self._send(line_of("reset", ask.id, n_cancelled=self._cancel_all()))
        elif ask.op == "stats":
            self._send(line_of("stats", ask.id, **self._stats()))
        else:
            self._send(line_of("pong", ask.id))

    def _begin(self, ask: Ask) -> None:
        with self._changed:
            if ask.id in self._open:
                raise LineError("duplicate_id", "a request with this id is open.", ask.id)
            if len(self._open) >= self._max_requests:
                message = "{} requests of this connection are open, no more may.".format(
                    self._max_requests
                )
                raise BusyError(message, "client", hint="wait for a 'done' before asking more.")
        defaults = self._scheduler.sessions[0].manifest.generation
        config = GenerationConfig.from_defaults(defaults, **ask.options)
        request = Request(ask.prompt or "", config, self._name, ask.limit_s)
        ticket = self._scheduler.submit(request)
        with self._changed:
            self._open[ask.id] = ticket
            self._n_carriers += 1
        carrier = threading.Thread(target=self._carry, args=(ask.id, ticket), daemon=True)
        try:
            carrier.start()
        except RuntimeError:
            ticket.cancel()
            self._close(ask.id, ticket, 1)
            raise BusyError("the system has no more threads.", "queue")

    def _carry(self, ask_id: Id, ticket: Ticket) -> None:
        """The events of a request, to its End; a client that does not listen is left."""
        try:
            self._send(line_of("accepted", ask_id, n_prompt=len(ticket.ids)))
            for event in ticket.events():
                if isinstance(event, End):
                    self._close(ask_id, ticket)
                    self._send(end_line(ask_id, event))
                elif isinstance(event, Piece):
                    for line in token_lines(ask_id, event):
                        self._send(line)
        except OSError:
            ticket.cancel()
            self._shut(socket.SHUT_RDWR)
        finally:
            self._close(ask_id, ticket, 1)

    def _close(self, ask_id: Id, ticket: Ticket, n_carriers: int = 0) -> None:
        """Free an id, unless it is another's already; and count carriers that have ended."""
        with self._changed:
            if self._open.get(ask_id) is ticket:
                del self._open[ask_id]
            self._n_carriers -= n_carriers
            self._changed.notify_all()

    def _cancel(self, ask_id: Id) -> None:
        with self._changed:
            ticket: Optional[Ticket] = self._open.get(ask_id)
        if ticket is None:
            raise LineError("unknown_id", "no request with this id is open.", ask_id)
        ticket.cancel()

    def _cancel_all(self) -> int:
        """Ends all that is open, to its last line; gives how many that were."""
        with self._changed:
            tickets = list(self._open.values())
        for ticket in tickets:
            ticket.cancel()
        with self._changed:
            while self._n_carriers:
                self._changed.wait()
        return len(tickets)

    def _send(self, line: bytes) -> None:
        with self._sending:
            self._sock.sendall(line)


def _too_long() -> LineError:
    return LineError(
        "line_too_long",
        "a line has more than {} bytes; it was dropped.".format(MAX_LINE_BYTES),
        hint="shorten the prompt.",
    )
