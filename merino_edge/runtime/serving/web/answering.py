"""Waiting for tokens on behalf of a client, and letting go when the client has.

The one idea: whoever waits looks, with each token and every quarter of a second, whether the client
is still there, and whatever ends the waiting (an error, a broken connection, a closed generator)
cancels the ticket. So nothing runs for nobody. The status of HTTP is decided by the first event:
until then an answer can still become an error, and afterwards an error becomes an event of the
stream.
"""

from typing import Any, Dict, Iterator, List, Optional, Tuple

from merino_edge.runtime.serving.job import End, Event, Piece, Ticket
from merino_edge.runtime.serving.web.asked import Asked
from merino_edge.runtime.serving.web.problem import problem_of_end
from merino_edge.runtime.serving.web.reply import Call, Reply
from merino_edge.runtime.serving.web.written import DONE, Writing, event_bytes, json_bytes

LOOK_S = 0.25  # between two looks at a silent connection
EVENT_STREAM = "text/event-stream; charset=utf-8"


class ClientGoneError(Exception):
    """There is nobody to answer."""


def reply_to(call: Call, ticket: Ticket, asked: Asked, writing: Writing) -> Reply:
    """The answer of a ticket, when it is known whether there is one.

    Raises:
        Problem: The generation failed before its first token.
        ClientGoneError: The client left; the ticket is cancelled.
    """
    try:
        if asked.stream:
            first = _next(call, ticket)
            _refuse_failed(first)
            parts = _stream(first, ticket, asked, writing)
            return Reply(200, EVENT_STREAM, parts, {"Cache-Control": "no-store"})
        return Reply(200, "application/json", _whole(call, ticket, writing))
    except BaseException:
        ticket.cancel()
        raise


def _whole(call: Call, ticket: Ticket, writing: Writing) -> bytes:
    texts: List[str] = []
    ids: List[int] = []
    while True:
        event = _next(call, ticket)
        if isinstance(event, End):
            _refuse_failed(event)
            return json_bytes(writing.whole("".join(texts), ids, event)) + b"\n"
        texts.append(event.text)
        ids += event.token_ids


def _stream(first: Event, ticket: Ticket, asked: Asked, writing: Writing) -> Iterator[bytes]:
    """Server-sent events; b"" now and then, so that the sender looks at the connection."""
    try:
        yield b"".join(event_bytes(each) for each in writing.opening())
        event: Optional[Event] = first
        while not isinstance(event, End):
            if event is None:
                yield b""
            else:
                piece, following = _with_ready(event, ticket)
                if piece.text or asked.with_ids:
                    yield event_bytes(writing.part(piece.text, piece.token_ids))
                if following is not None:
                    event = following
                    continue
            event = ticket.next_event(LOOK_S)
        yield b"".join(event_bytes(each) for each in _last(event, asked, writing)) + DONE
    finally:
        ticket.cancel()  # does nothing to one that has ended


def _last(end: End, asked: Asked, writing: Writing) -> List[Dict[str, Any]]:
    problem = problem_of_end(end)
    return writing.closing(end, asked.with_usage) if problem is None else [problem.document()]


def _with_ready(piece: Piece, ticket: Ticket) -> Tuple[Piece, Optional[End]]:
    """A piece with those that are there already: a slow reader gets fewer and larger parts."""
    text, ids = piece.text, list(piece.token_ids)
    while True:
        event = ticket.next_event(0)
        if not isinstance(event, Piece):
            return Piece(text, ids), event
        text += event.text
        ids += event.token_ids


def _next(call: Call, ticket: Ticket) -> Event:
    while True:
        event = ticket.next_event(LOOK_S)
        if call.is_gone():
            raise ClientGoneError
        if event is not None:
            return event


def _refuse_failed(event: Event) -> None:
    problem = problem_of_end(event) if isinstance(event, End) else None
    if problem is not None:
        raise problem
