"""A client of the socket for tests: says lines, reads events, and never waits for ever."""

import json
import socket

VARYING = ("queue_ms", "ttft_ms", "decode_ms", "uptime_s", "connections_before")


class SocketClient:
    """A connection; the hello is read."""

    def __init__(self, path, timeout_s=20.0):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout_s)
        self.sock.connect(str(path))
        self._lines = self.sock.makefile("rb")
        self.hello = self.next()

    def send(self, *lines):
        """Lines: bytes as they are, anything else as JSON."""
        parts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines]
        self.sock.sendall(b"".join(part + b"\n" for part in parts))

    def next(self):
        """The next event; None at the end of the connection."""
        line = self._lines.readline()
        return json.loads(line) if line else None

    def until_end(self, ask_id):
        """Events up to the last one of a request."""
        events = []
        while not events or not (
            events[-1]["event"] in ("done", "error") and events[-1]["id"] == ask_id
        ):
            events.append(self.next())
            assert events[-1] is not None, events
        return events

    def ask(self, **fields):
        """Ask and read to the end; for one request at a time."""
        self.send(fields)
        return self.until_end(fields["id"])

    def close(self):
        self._lines.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def text_of(events):
    """The answer."""
    return "".join(event.get("text", "") for event in events)


def without_times(event):
    """An event with what differs each time as "number", and its version as "version"."""
    event = {k: "number" if k in VARYING and v is not None else v for k, v in event.items()}
    return {k: "version" if k == "server" else v for k, v in event.items()}
