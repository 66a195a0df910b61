"""What the server says over the socket, as lines of bytes.

The one idea: an event is one line of at most ``MAX_EVENT_BYTES``, so that a client in C reads it
into a buffer that it took at its start. A long text is cut into several events. The protocol is
told in ``jetson/firmware/PROTOCOL.md``; this module knows no socket.
"""

import json
from typing import Any, Dict, Iterator, Optional

from merino_edge import __version__
from merino_edge.errors import (
    BusyError,
    MerinoError,
    MissingDependencyError,
    SpecError,
    UnsupportedError,
)
from merino_edge.runtime.serving.job import End, Piece
from merino_edge.runtime.serving.socket_requests import MAX_LINE_BYTES, Id, LineError
from merino_edge.runtime.session import GenerationSession

PROTOCOL = "merino-edge.socket/1"
MAX_EVENT_BYTES = 8192
MAX_TEXT_CHARS = 1000  # of at most 6 bytes each, as \u001f, and the rest of an event
MAX_SENTENCE_CHARS = 300

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def line_of(event: str, ask_id: Id = None, **fields: Any) -> bytes:
    """One event; the id comes first, so that a reader of logs sees whose it is."""
    document: Dict[str, Any] = {"id": ask_id, "event": event}
    document.update(fields)
    return _encode(document).encode("utf-8", "replace") + b"\n"


def hello(session: GenerationSession, max_requests: int) -> bytes:
    """The first line of every connection: who speaks, and what it takes."""
    has_text = session.tokenizer is not None
    return line_of(
        "hello",
        protocol=PROTOCOL,
        server="merino-edge " + __version__,
        model=session.manifest.name[:100],
        backend=session.backend.name,
        context_len=session.context_len,
        vocab_size=session.backend.vocab_size,
        text=has_text,
        chat=has_text and session.manifest.chat is not None,
        max_line_bytes=MAX_LINE_BYTES,
        max_event_bytes=MAX_EVENT_BYTES,
        max_requests=max_requests,
    )


def token_lines(ask_id: Id, piece: Piece) -> Iterator[bytes]:
    """A token and the text that it made certain; several lines where that is long."""
    yield line_of("token", ask_id, ids=piece.token_ids, text=piece.text[:MAX_TEXT_CHARS])
    for start in range(MAX_TEXT_CHARS, len(piece.text), MAX_TEXT_CHARS):
        yield line_of("token", ask_id, ids=[], text=piece.text[start : start + MAX_TEXT_CHARS])


def end_line(ask_id: Id, end: End) -> bytes:
    """The last event of a request: "done", or "error" if it broke."""
    if end.error is not None:
        return error_line(end.error, ask_id, "failed")
    usage = end.usage
    fields: Dict[str, Any] = {
        "finish_reason": end.reason,
        "n_prompt": usage.n_prompt,
        "n_generated": usage.n_generated,
    }
    for name in ("queue_ms", "ttft_ms", "decode_ms", "energy_j"):
        value: Optional[float] = getattr(usage, name)
        fields[name] = None if value is None else round(value, 3)
    return line_of("done", ask_id, **fields)


def error_line(error: MerinoError, ask_id: Id = None, code: str = "") -> bytes:
    """An error of ours, with a code for programs; "" for the one that fits."""
    fields = {"code": code or code_of(error), "message": error.message[:MAX_SENTENCE_CHARS]}
    if error.hint:
        fields["hint"] = error.hint[:MAX_SENTENCE_CHARS]
    return line_of("error", ask_id, **fields)


def code_of(error: MerinoError) -> str:
    """The code of an error, as PROTOCOL.md lists them."""
    if isinstance(error, LineError):
        return error.code
    if isinstance(error, BusyError):
        return "stopping" if error.reason == "stopping" else "busy"
    if isinstance(error, SpecError):
        return "bad_request"
    if isinstance(error, (UnsupportedError, MissingDependencyError)):
        return "unsupported"
    return "refused"
