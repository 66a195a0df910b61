"""A line of a client's, understood or refused: what may be asked over the socket.

The one idea: a line is checked completely before anything happens, and what is wrong with it is
said with a code for programs and a sentence for people. Nothing is guessed: an unknown field is an
error, since it is a misspelt one. The protocol is told in ``jetson/firmware/PROTOCOL.md``; this
module knows no socket, no scheduler and no model.
"""

import json
import re
from typing import Any, Dict, List, NamedTuple, NoReturn, Optional, Tuple, Union

from merino_edge.errors import MerinoError, SpecError

MAX_LINE_BYTES = 256 << 10
MAX_ID_CHARS = 64
MAX_ID = 2**53 - 1  # as large as every JSON reader keeps exactly
MAX_STOPS, MAX_STOP_CHARS = 16, 200
MAX_LIMIT_MS = 24 * 3600 * 1000.0

Id = Union[int, str, None]
SAMPLING = ("temperature", "top_k", "top_p")
WHOLE = ("max_new_tokens", "min_new_tokens", "top_k", "seed")
REAL = ("temperature", "top_p", "repetition_penalty")
OPTIONS = WHOLE + REAL + ("stop", "eos_token_ids", "limit_ms")
FIELDS: Dict[str, Tuple[str, ...]] = {
    "generate": ("prompt", "ids") + OPTIONS,
    "chat": ("messages",) + OPTIONS,
    "cancel": (),
    "stats": (),
    "ping": (),
    "reset": (),
}
NEED_ID = ("generate", "chat", "cancel")


class LineError(MerinoError):
    """A line that cannot be taken; the connection goes on.

    Args:
        code: For programs; one of the codes in PROTOCOL.md.
        message: For people.
        ask_id: Of the request, where the line showed one.
        hint: What to do.
    """

    def __init__(self, code: str, message: str, ask_id: Id = None, hint: Optional[str] = None):
        super().__init__(message, hint=hint)
        self.code = code
        self.ask_id = ask_id


class Ask(NamedTuple):
    """A line that was understood.

    Attributes:
        op: A key of ``FIELDS``.
        id: The client's name for it, which every event repeats; None where none is needed.
        prompt: Text, token ids or a conversation, with "generate" and "chat".
        options: Fields of a GenerationConfig that the client chose.
        limit_s: Seconds until it must have ended; None for no limit.
    """

    op: str
    id: Id = None
    prompt: Union[str, List[int], List[Dict[str, str]], None] = None
    options: Dict[str, Any] = {}
    limit_s: Optional[float] = None


def ask_of(line: bytes) -> Ask:
    """Read one line, without its end.

    Raises:
        LineError: It is not JSON, or not a request.
    """
    document = _document(line)
    ask_id = _id_of(document)
    op = document.get("op")
    if not isinstance(op, str) or op not in FIELDS:
        message = "op is missing." if op is None else "there is no op {}.".format(_shown(op))
        hint = "one of: " + ", ".join(sorted(FIELDS))
        raise LineError("unknown_op", message, ask_id, hint)
    if op in NEED_ID and ask_id is None:
        raise LineError("bad_request", "'{}' needs an id.".format(op))
    try:
        return _ask(op, ask_id, document)
    except SpecError as error:
        raise LineError("bad_request", error.message, ask_id, error.hint)


def _document(line: bytes) -> Dict[str, Any]:
    try:
        document = json.loads(line.decode("utf-8"), parse_int=_whole, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise LineError("bad_line", "not JSON: {}.".format(_cut(str(error))))
    if not isinstance(document, dict):
        raise LineError("bad_line", "a line is one JSON object.")
    return document


def _whole(digits: str) -> int:
    """Older Pythons read thousands of digits in minutes; nothing here needs more than 16."""
    if len(digits) > 20:
        raise ValueError("a number of {} digits".format(len(digits)))
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError("{} is not JSON".format(name))


def _id_of(document: Dict[str, Any]) -> Id:
    value = document.get("id")
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_ID:
        return value
    if isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARS and _is_unicode(value):
        return value
    raise LineError(
        "bad_request",
        "an id is a whole number from 0 to 2^53 - 1, or a text of 1 to 64 characters.",
    )


def _ask(op: str, ask_id: Id, document: Dict[str, Any]) -> Ask:
    for name in document:
        if name not in FIELDS[op] and name not in ("op", "id"):
            raise SpecError("'{}' has no field {}.".format(op, _shown(name)))
    if op == "generate":
        return Ask(op, ask_id, _prompt(document), _options(document), _limit_s(document))
    if op == "chat":
        messages = _messages(document.get("messages"))
        return Ask(op, ask_id, messages, _options(document), _limit_s(document))
    return Ask(op, ask_id)


def _prompt(document: Dict[str, Any]) -> Union[str, List[int]]:
    if ("prompt" in document) == ("ids" in document):
        raise SpecError("'generate' takes either a prompt or ids.")
    if "prompt" in document:
        return _text(document["prompt"], "prompt")
    return _ids(document["ids"], "ids")


def _messages(value: Any) -> List[Dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise SpecError("messages is a list of at least one message.")
    for message in value:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise SpecError("a message has a role and a content, and nothing else.")
        _text(message["role"], "role")
        _text(message["content"], "content")
    return value


def _options(document: Dict[str, Any]) -> Dict[str, Any]:
    """What GenerationConfig takes; naming one of SAMPLING asks for a draw, as in `run`."""
    chosen: Dict[str, Any] = {}
    for name in WHOLE:
        if name in document:
            chosen[name] = _number(document[name], name, int)
    for name in REAL:
        if name in document:
            chosen[name] = float(_number(document[name], name, (int, float)))
    if any(name in chosen for name in SAMPLING):
        chosen["do_sample"] = True
    if "stop" in document:
        chosen["stop"] = _stops(document["stop"])
    if "eos_token_ids" in document:
        chosen["eos_token_ids"] = tuple(_ids(document["eos_token_ids"], "eos_token_ids"))
    return chosen


def _stops(value: Any) -> Tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    if len(texts) > MAX_STOPS:
        raise SpecError("stop has {} texts, at most {} are taken.".format(len(texts), MAX_STOPS))
    for text in texts:
        if not _text(text, "stop") or len(text) > MAX_STOP_CHARS:
            raise SpecError("a stop has 1 to {} characters.".format(MAX_STOP_CHARS))
    return tuple(texts)


def _limit_s(document: Dict[str, Any]) -> Optional[float]:
    if "limit_ms" not in document:
        return None
    limit_ms = float(_number(document["limit_ms"], "limit_ms", (int, float)))
    if not 0 < limit_ms <= MAX_LIMIT_MS:
        raise SpecError("limit_ms is {}, must be above 0 and at most a day.".format(limit_ms))
    return limit_ms / 1e3


def _ids(value: Any, name: str) -> List[int]:
    if not isinstance(value, list):
        raise SpecError("{} is a list of token ids.".format(name))
    for token_id in value:
        if not -(2**31) <= _number(token_id, name, int) < 2**31:
            raise SpecError("{} holds {}, which is no token id.".format(name, token_id))
    return value


def _number(value: Any, name: str, kinds: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, kinds):
        whole = "a whole number" if kinds is int else "a number"
        raise SpecError("{} is {}, must be {}.".format(name, _shown(value), whole))
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise SpecError("{} is {}, must be text.".format(name, _shown(value)))
    if not _is_unicode(value):
        raise SpecError("{} holds half of a surrogate pair, which is no character.".format(name))
    return value


def _is_unicode(text: str) -> bool:
    return re.search("[\ud800-\udfff]", text) is None


def _shown(value: Any) -> str:
    return "nothing" if value is None else _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
