"""How long a client may take, and how much it may send."""

from typing import NamedTuple


class WebLimits(NamedTuple):
    """Bounds of the HTTP side; ``scheduler.Limits`` has those of the queue.

    Attributes:
        connections: Open at a time; a few more are told so, further ones are closed.
        head_bytes: Request line and headers.
        body_bytes: Of a request.
        head_s: For sending the head, all of it.
        body_s: For sending the body, all of it.
        idle_s: Without a request, on a connection that may have more.
        send_s: For taking in a part of an answer.
        request_s: From a request's arrival to the end of its answer, waiting included.
    """

    connections: int = 64
    head_bytes: int = 32 << 10
    body_bytes: int = 256 << 10
    head_s: float = 10.0
    body_s: float = 20.0
    idle_s: float = 60.0
    send_s: float = 20.0
    request_s: float = 300.0
