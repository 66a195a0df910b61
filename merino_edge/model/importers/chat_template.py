"""From a Jinja chat template to plain strings, by asking it.

A board has no template engine, and most templates need none: each message is written between a
prefix and a suffix that depend on its role, a default system message may come first, and a last
piece opens the answer. The one idea: render conversations whose contents are marks, cut the text
at the marks, and believe the pieces only if they reproduce *other*, longer conversations to the
letter. A template that does more (tools, dates, trimming) fails that and is reported, not
approximated. The template is somebody else's program, so it runs in ``chat_render.py``.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from merino_edge.formats.manifest import ChatFormat, RoleFormat

MAX_TEMPLATE = 1 << 16
TIMEOUT_S = 20.0
_RENDERER = Path(__file__).with_name("chat_render.py")
_UNEVEN = "what it writes around a message depends on the others: {}"
_MARKS = ("zqSYSzq", "zqASKzq", "zqSAYzq", "zqMOREzq")

Message = dict[str, str]
Conversation = list[Message]


class ChatProbe(NamedTuple):
    """What came of it: the format, or None and the reason."""

    format: ChatFormat | None
    reason: str


class _NoFormatError(Exception):
    """The template cannot be written as plain strings; the argument says why."""


class Rendering(NamedTuple):
    """One conversation as the template writes it, without and with the generation prompt."""

    closed: str
    opened: str


def _talk(*contents: str, system: str | None = None) -> Conversation:
    """User and assistant in turn, behind an optional system message."""
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]
    return [{"role": "system", "content": system}, *turns] if system is not None else turns


_SYSTEM, _ASK, _SAY, _MORE = _MARKS
_PROBES = (
    _talk(_ASK),
    _talk(_ASK, _SAY),
    _talk(_ASK, _SAY, _MORE),
    _talk(_ASK, system=_SYSTEM),
)
_CHECKS_PLAIN = (
    _talk("Why is the sky blue?"),
    _talk("  two spaces before, a line after \n"),
    _talk("one", "two", "three", "four", "five", "six", "seven"),
    _talk("naïve café, 東京, 😀", "{{ messages }} {% raw %} <|im_end|>", "a\n\nb\n"),
)
_CHECKS_SYSTEM = (
    _talk("Hi.", system="Answer in one word."),
    _talk("1+1?", "2", "2+2?", "4", "and <b>3 & 4</b>?", system=" Line one.\nLine two. \n"),
)


def chat_format_from_template(
    template: str, bos_token: str = "", eos_token: str = "", strip_bos: bool = False
) -> ChatProbe:
    """Find the plain strings behind a template.

    Args:
        template: The Jinja source, as in ``tokenizer.chat_template``.
        bos_token: Text of the token that begins a text, for templates that write it.
        eos_token: Text of the token that ends one.
        strip_bos: The runtime puts ``bos`` before every prompt itself, so a template that
            begins with it loses it here.
    """
    conversations = [*_PROBES, *_CHECKS_PLAIN, *_CHECKS_SYSTEM]
    variables = {"bos_token": bos_token, "eos_token": eos_token}
    try:
        results = _render(template, conversations, variables)
        cut = bos_token if strip_bos else ""
        found = [_without(result, cut) for result in results]
        chat = _derive(found[: len(_PROBES)])
        _verify(chat, conversations, found)
    except _NoFormatError as why:
        return ChatProbe(None, str(why))
    return ChatProbe(chat, "found, and verified on other conversations")


def _render(
    template: str, conversations: list[Conversation], variables: dict[str, str]
) -> list[Rendering | str]:
    """Every conversation, rendered in another process; a str is the error of that one."""
    if len(template) > MAX_TEMPLATE:
        raise _NoFormatError(f"the template is longer than {MAX_TEMPLATE} characters")
    request = {"template": template, "conversations": conversations, "variables": variables}
    try:
        done = subprocess.run(
            [sys.executable, str(_RENDERER)],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _NoFormatError(f"the template ran longer than {TIMEOUT_S:g} s") from error
    if done.returncode != 0:
        raise _NoFormatError(_why_it_died(done))
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise _NoFormatError(f"the template is not valid Jinja: {answer['error']}")
    results = answer["results"]
    return [_pair(*results[i : i + 2]) for i in range(0, len(results), 2)]


def _why_it_died(done: "subprocess.CompletedProcess[str]") -> str:
    if "No module named 'jinja2'" in done.stderr:
        return "the package 'jinja2' is not installed (pip install 'merino-edge[host]')"
    last = done.stderr.strip().splitlines()[-1:] or [f"it ended with code {done.returncode}"]
    return f"the template took too much time or memory: {last[0]:.100}"


def _pair(closed: dict[str, str], opened: dict[str, str]) -> Rendering | str:
    error = closed.get("error") or opened.get("error")
    return error if error else Rendering(closed["text"], opened["text"])


def _without(rendering: Rendering | str, start: str) -> Rendering | str:
    if isinstance(rendering, str):
        return rendering
    return Rendering(*(text.removeprefix(start) for text in rendering))


def _derive(probes: list[Rendering | str]) -> ChatFormat:
    """Cut the probes at their marks.

    The end of a conversation gives the suffix of its last role; what stands between two marks is
    then that suffix and the next prefix.
    """
    ask, say, more = (_rendered(probe) for probe in probes[:3])
    system = probes[3]
    user_suffix = _pieces(ask.closed, _ASK)[-1]
    assistant_suffix = _pieces(say.closed, _ASK, _SAY)[-1]
    head, after_ask, after_say, _ = _pieces(more.closed, _ASK, _SAY, _MORE)
    user_prefix = _after(after_say, assistant_suffix)
    roles = {
        "user": RoleFormat(user_prefix, user_suffix),
        "assistant": RoleFormat(_after(after_ask, user_suffix), assistant_suffix),
    }
    opening = _before(head, user_prefix)
    default = None
    if isinstance(system, Rendering):
        prefix, between, _ = _pieces(system.closed, _SYSTEM, _ASK)
        roles["system"] = RoleFormat(prefix, _before(between, user_prefix))
        default = _before(_after(opening, prefix), roles["system"].suffix) if opening else None
    elif opening:
        raise _NoFormatError("the template opens a conversation with text of its own")
    return ChatFormat(roles, _after(ask.opened, ask.closed), default)


def _rendered(probe: Rendering | str) -> Rendering:
    if isinstance(probe, str):
        raise _NoFormatError(f"the template refuses a plain conversation ({probe})")
    return probe


def _pieces(text: str, *marks: str) -> list[str]:
    """The text before, between and after the marks, which must stand there once, in order."""
    pieces = []
    for mark in marks:
        if text.count(mark) != 1:
            raise _NoFormatError("the template repeats, drops or reorders messages")
        piece, _, text = text.partition(mark)
        pieces.append(piece)
    return [*pieces, text]


def _after(text: str, start: str) -> str:
    if not text.startswith(start):
        raise _NoFormatError(_UNEVEN.format(f"{text!r:.40} does not begin with {start!r:.40}"))
    return text[len(start) :]


def _before(text: str, end: str) -> str:
    if not text.endswith(end):
        raise _NoFormatError(_UNEVEN.format(f"{text!r:.40} does not end with {end!r:.40}"))
    return text[: len(text) - len(end)]


def _verify(
    chat: ChatFormat, conversations: list[Conversation], found: list[Rendering | str]
) -> None:
    """Every conversation must come out the same both ways; one without "system" may refuse it."""
    for messages, rendering in zip(conversations, found, strict=True):
        if messages[0]["role"] not in chat.roles:
            continue
        if isinstance(rendering, str):
            raise _NoFormatError(f"the template refuses {messages!r:.80} ({rendering})")
        if messages[-1]["role"] == "user" and chat.render(messages) != rendering.opened:
            raise _NoFormatError(
                f"plain prefixes and suffixes do not reproduce it; it differs for {messages!r:.100}"
            )
