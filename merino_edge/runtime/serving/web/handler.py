"""One connection: request after request, each read, answered and sent within its time.

The one idea: `http.server` parses the head, and everything else it does by default (waiting for
ever, pages of HTML, trusting lengths) is replaced. A request that fails before its body was read
ends the connection, for what follows on it cannot be told from that body.
"""

import contextlib
import http.server
import io
import select
import socket
import time
import traceback
from http import HTTPStatus
from typing import Any, Dict, Iterator, NoReturn, Optional

from merino_edge.runtime.serving.web.answering import ClientGoneError
from merino_edge.runtime.serving.web.deadline_reader import (
    DeadlineReader,
    TimeUpError,
    TooMuchError,
)
from merino_edge.runtime.serving.web.endpoints import Endpoint
from merino_edge.runtime.serving.web.problem import Problem
from merino_edge.runtime.serving.web.reply import Call, Reply

LINGER_S = 2.0  # how long what a refused client still sends is read, so that it hears the refusal
_PHRASES = {each.value: each.phrase for each in HTTPStatus}
_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one connection of a ``Server``."""

    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # a head is answered with a head
    disable_nagle_algorithm = True
    server: Any  # a Server

    def setup(self) -> None:
        """Read through a DeadlineReader instead of the socket's own file."""
        super().setup()
        self.rfile.close()
        self._reader = DeadlineReader(self.connection)
        self.rfile = io.BufferedReader(self._reader)
        self._limits = self.server.api.limits
        self._body_left = False  # bytes of a body that nobody has read
        self._is_first = True
        self._status = 0

    def handle(self) -> None:
        """All requests of the connection."""
        self.close_connection = False
        try:
            while not (self.close_connection or self.server.is_stopping):
                self.handle_one_request()
                self._is_first = False
        except (OSError, ClientGoneError, TimeUpError):
            pass  # the client is gone, or might as well be
        except Exception:  # a bug of ours ends this connection and no other
            self.server.on_fault(traceback.format_exc())

    def handle_one_request(self) -> None:
        """Read, answer, send."""
        self._status, self.path, self.command = 0, "", ""
        try:
            if not self._wait_for_request():
                self.close_connection = True
                return
            self._body_left = False
            reply = self._answer()
        except Problem as problem:
            reply = problem.reply()
        except Exception as error:
            if isinstance(error, (OSError, ClientGoneError, TimeUpError)):
                self._count(499)
                raise
            self.server.on_fault(traceback.format_exc())
            text = "something broke inside the server; its log says more."
            reply = Problem(500, text, "server_error").reply()
        if self._body_left:
            self.close_connection = True
        try:
            self._send(reply)
        finally:
            self._count(reply.status)

    def send_error(
        self, code: int, message: Optional[str] = None, explain: Optional[str] = None
    ) -> NoReturn:
        """What `http.server` finds wrong with a head is always the client's fault."""
        self._refuse(400 if code >= 500 else code, message or explain or "bad request")

    def handle_expect_100(self) -> bool:
        """Whether the body is wanted is said later, by ``_body``."""
        return True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the figures are in /metrics."""

    def finish(self) -> None:
        """Let a client that still sends hear why it is not read."""
        super().finish()
        if self._body_left:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
                self._drain()

    def _wait_for_request(self) -> bool:
        """Whether a request was read up to its body; False if there is none any more."""
        limits = self._limits
        self._reader.begin(limits.head_s if self._is_first else limits.idle_s, 1)
        try:
            with self.server.resting(self.connection):
                if not self.rfile.peek(1):  # type: ignore[attr-defined]
                    return False
        except TimeUpError:
            return False  # nothing was asked, so nothing is answered
        self._reader.begin(limits.head_s, limits.head_bytes)
        self._body_left = True  # until the head is understood, anything may follow
        try:
            return self._read_head()
        except TimeUpError:
            self._refuse(408, "the head of the request did not come in time.", "timeout")
        except TooMuchError:
            self._refuse(431, "the head of the request is too large.", "head_too_large")

    def _read_head(self) -> bool:
        self.raw_requestline = self.rfile.readline(self._limits.head_bytes + 1)
        if not self.raw_requestline.strip():
            raise Problem(400, "the request line is empty.", "bad_request")
        # what is wrong ends in send_error, which raises
        return self.parse_request()

    def _answer(self) -> Reply:
        api = self.server.api
        length = self._content_length()
        self._body_left = length > 0
        endpoint = api.endpoint(self.command, self.path)
        self._check_crowd(endpoint)
        client = api.admit(endpoint, self.headers, self.client_address[0])
        body = self._body(endpoint, length)
        return endpoint.answer(Call(client, body, self._is_gone))  # type: ignore[no-any-return]

    def _check_crowd(self, endpoint: Endpoint) -> None:
        """A connection too many hears so; a health check is answered on it all the same."""
        if self.server.is_crowded(self.connection) and endpoint.path != "/health":
            self.close_connection = True
            text = "{} connections are open, no more may be.".format(self._limits.connections)
            raise Problem(503, text, "too_many_connections", headers={"Retry-After": "1"})

    def _content_length(self) -> int:
        """Bytes of the body that follows.

        Raises:
            Problem: It is not said, or in two ways.
        """
        lengths = self.headers.get_all("Content-Length", [])
        if self.headers.get("Transfer-Encoding") is not None:
            self._refuse(411, "send Content-Length, not Transfer-Encoding.", "length_required")
        if len(lengths) > 1 or (lengths and not lengths[0].strip().isdigit()):
            self._refuse(400, "Content-Length must be one number.", "bad_request")
        if lengths and len(lengths[0].strip()) > 15:
            self._refuse(413, "the body is too large.", "body_too_large")
        return int(lengths[0]) if lengths else 0

    def _body(self, endpoint: Endpoint, length: int) -> bytes:
        limits = self._limits
        if length > limits.body_bytes:
            text = "the body has {} bytes, the limit is {}.".format(length, limits.body_bytes)
            raise Problem(413, text, "body_too_large")
        if endpoint.method == "POST":
            self._check_body_head()
        if length and self.headers.get("Expect", "").lower() == "100-continue":
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n", limits.send_s)
        self._reader.begin(limits.body_s, length)
        try:
            body = self.rfile.read(length) if length else b""
        except TimeUpError:
            raise Problem(408, "the body did not come in time.", "timeout")
        self._body_left = False
        if len(body) < length:
            raise ClientGoneError
        return body

    def _check_body_head(self) -> None:
        """JSON, and said so: see ``access`` for why."""
        if self.headers.get_content_type() != "application/json":
            text = "send Content-Type: application/json."
            raise Problem(415, text, "unsupported_media_type")
        if "Content-Length" not in self.headers:
            raise Problem(411, "send Content-Length.", "length_required")

    def _send(self, reply: Reply) -> None:
        if isinstance(reply.body, bytes):
            headers = {"Content-Length": str(len(reply.body))}
            body = b"" if self.command == "HEAD" else reply.body
            self._write(self._head(reply, headers) + body, self._limits.send_s)
            return
        try:
            self._send_parts(reply, reply.body)
        finally:
            reply.body.close()  # type: ignore[attr-defined] # the ticket is let go, whatever came

    def _send_parts(self, reply: Reply, parts: Iterator[bytes]) -> None:
        """Each as it comes, as a chunk where the client's HTTP has them."""
        has_chunks = self.request_version == "HTTP/1.1"
        if not has_chunks:
            self.close_connection = True
        end_s = time.monotonic() + self._limits.request_s + self._limits.send_s
        head = self._head(reply, {"Transfer-Encoding": "chunked"} if has_chunks else {})
        for part in parts:
            if head or part:
                framed = b"%x\r\n%s\r\n" % (len(part), part) if has_chunks and part else part
                self._write(head + framed, min(self._limits.send_s, end_s - time.monotonic()))
                head = b""
            if self._is_gone():
                raise ClientGoneError
        if has_chunks:
            self._write(b"0\r\n\r\n", self._limits.send_s)

    def _head(self, reply: Reply, more: Dict[str, str]) -> bytes:
        headers = {"Content-Type": reply.content_type, "Date": self.date_time_string()}
        headers.update(_SAFE)
        headers.update(reply.headers)
        headers.update(more)
        is_last = self.close_connection or self.server.is_stopping
        headers["Connection"] = "close" if is_last else "keep-alive"
        phrase = _PHRASES.get(reply.status, "Error")
        lines = ["HTTP/1.1 {} {}".format(reply.status, phrase)]
        lines += ["{}: {}".format(name, value) for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _write(self, data: bytes, seconds: float) -> None:
        self.connection.settimeout(max(seconds, 0.001))  # for all of it, not for each byte
        self.connection.sendall(data)

    def _is_gone(self) -> bool:
        """Whether the client closed its side: then a read gives the end at once."""
        try:
            poll = select.poll()
            poll.register(self.connection, select.POLLIN)
            return bool(poll.poll(0)) and not self.connection.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True

    def _drain(self) -> None:
        end_s = time.monotonic() + LINGER_S
        while time.monotonic() < end_s:
            self.connection.settimeout(max(end_s - time.monotonic(), 0.001))
            if not self.connection.recv(1 << 16):
                return

    def _refuse(self, status: int, message: str, code: str = "bad_request") -> NoReturn:
        """Say so, and trust nothing that follows on this connection."""
        self.close_connection = self._body_left = True
        raise Problem(status, message, code)

    def _count(self, status: int) -> None:
        self.server.api.measures.answered(self.server.api.label(self.path), status)
