"""A real server on a real tiny bundle, in this process, for tests that speak to it.

Readable by Python 3.6, because the device's tests use it too.
"""

import contextlib
import json
import socket

from merino_edge.formats.bundle import Bundle
from merino_edge.runtime.serving.pool import open_sessions
from merino_edge.runtime.serving.web.service import serving


@contextlib.contextmanager
def stand(bundle, n_sessions=None, backend="auto", **options):
    """A Service on a free port; its ``faults`` are bugs, and fail the test."""
    faults = []
    sessions = open_sessions(bundle, n_sessions, backend)
    fingerprint = Bundle.open(bundle).bundle_id
    with serving(sessions, fingerprint, on_fault=faults.append, **options) as service:
        service.faults = faults
        yield service
    assert faults == []


def connect(service):
    """A socket to it, which waits ten seconds at most."""
    return socket.create_connection(("127.0.0.1", service.server.port), timeout=10)


def head_of(method, path, *headers):
    """The head of a request, up to and with the empty line."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"] + list(headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def post_bytes(path, document, *headers):
    """A whole POST of a JSON document (or of bytes as they are)."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode("utf-8")
    length = f"Content-Length: {len(body)}"
    return head_of("POST", path, "Content-Type: application/json", length, *headers) + body


def answer(connection):
    """(status, headers, body) of the next answer that says its length, or ends the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        got = connection.recv(65536)
        if not got:
            break
        data += got
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:])}
    while len(body) < int(headers.get("content-length", 0)):
        got = connection.recv(65536)
        if not got:
            break
        body += got
    return int(lines[0].split(" ")[1]), headers, body


def asked(service, data):
    """(status, headers, JSON) of a request on a connection of its own."""
    with contextlib.closing(connect(service)) as connection:
        connection.sendall(data)
        status, headers, body = answer(connection)
    return status, headers, json.loads(body.decode("utf-8"))
