"""Generate text with a bundle, as it comes.

Example:
  merino-edge run bundle/ --prompt "The sheep" --max-new-tokens 32
  merino-edge run bundle/ --chat "What is the capital of France?" --temperature 0

Sampling options start from what the bundle recommends; naming one of temperature, top-k or top-p
draws, and --temperature 0 is greedy. The text goes to stdout, timings to stderr. Ctrl-C ends
the text where it is, with exit code 130. Works on both machines.
"""

import argparse
import contextlib
import os
import signal
import sys
from typing import Any, Callable, Dict, Iterator, List

from merino_edge.cli import options
from merino_edge.cli.output import Progress, print_json
from merino_edge.errors import UsageError

SAMPLING = ("temperature", "top_k", "top_p")
OTHERS = ("max_new_tokens", "min_new_tokens", "repetition_penalty", "seed")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", help="the folder")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--prompt", metavar="TEXT", help="text to continue; - reads stdin")
    what.add_argument("--chat", metavar="TEXT", help="a message to answer; - reads stdin")
    parser.add_argument("--system", metavar="TEXT", help="system message, with --chat")
    for name, kind, text in GENERATION_OPTIONS:
        metavar = "N" if kind is options.natural_int else "X"
        parser.add_argument("--" + name, type=kind, metavar=metavar, help=text)
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="end before this text; repeatable",
    )
    options.add_seed(parser)
    options.add_backend(parser)
    options.add_json(parser)
    options.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Load, generate, report."""
    from merino_edge.runtime import GenerationConfig, load

    if args.system is not None and args.chat is None:
        raise UsageError(
            "--system belongs to a conversation.", hint="use --chat instead of --prompt."
        )
    progress = Progress("run", args.quiet or args.json)
    with load(args.bundle, args.backend, args.threads, progress.done) as session:
        config = GenerationConfig.from_defaults(session.manifest.generation, **_overrides(args))
        with _cancel_on_interrupt() as cancelled:
            pieces = _begin(session, args, config, cancelled)
            text = "".join(_shown(pieces, silent=args.json))
        if args.json:
            print_json(_document(session, text))
        else:
            sys.stdout.write("\n")
            progress.done(_stats(session))
        return 130 if session.finish_reason == "cancelled" else 0


def _begin(
    session: Any, args: argparse.Namespace, config: Any, cancel: Callable[[], bool]
) -> Iterator[str]:
    if args.chat is None:
        return session.stream(_text(args.prompt), config, cancel)  # type: ignore[no-any-return]
    messages = [{"role": "user", "content": _text(args.chat)}]
    if args.system is not None:
        messages.insert(0, {"role": "system", "content": _text(args.system)})
    return session.chat(messages, config, cancel)  # type: ignore[no-any-return]


def _shown(pieces: Iterator[str], silent: bool) -> Iterator[str]:
    for piece in pieces:
        if not silent:
            sys.stdout.write(piece)
            sys.stdout.flush()
        yield piece


def _overrides(args: argparse.Namespace) -> Dict[str, Any]:
    given = {name: getattr(args, name) for name in SAMPLING + OTHERS}
    chosen = {name: value for name, value in given.items() if value is not None}
    if any(name in chosen for name in SAMPLING):
        chosen["do_sample"] = True
    if args.stop:
        chosen["stop"] = tuple(_text(text) for text in args.stop)
    return chosen


def _document(session: Any, text: str) -> Dict[str, Any]:
    last = session.last
    return {
        "text": text,
        "output_ids": last.output_ids,
        "finish_reason": last.finish_reason,
        "n_prompt": last.timings.n_prompt,
        "ttft_ms": last.timings.ttft_ms,
        "itl_ms": last.timings.itl_ms,
        "backend": session.backend.name,
        "engine": session.backend.description,
    }


def _stats(session: Any) -> str:
    last = session.last
    timings = last.timings
    parts = ["{} prompt tokens, {} generated".format(timings.n_prompt, len(last.output_ids))]
    if timings.ttft_ms is not None:
        parts.append("first after {:.0f} ms".format(timings.ttft_ms))
    if timings.itl_ms:
        parts.append("then {:.1f} tok/s".format(1e3 * len(timings.itl_ms) / sum(timings.itl_ms)))
    return ", ".join(parts) + " ({}, {})".format(last.finish_reason, session.backend.name)


def _text(text: str) -> str:
    """UTF-8 of an option, or of stdin for "-".

    Under the locale "C", Python 3.6 gives an option's bytes as lone surrogates; fsencode gives them
    back.
    """
    data = sys.stdin.buffer.read() if text == "-" else os.fsencode(text)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError("the text is not UTF-8 ({}).".format(error))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError("'{}' is not a number.".format(text))


@contextlib.contextmanager
def _cancel_on_interrupt() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C asks for a clean end; the second interrupts as usual."""
    asked: List[int] = []

    def ask(number: int, frame: Any) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, previous)


GENERATION_OPTIONS = (
    ("max-new-tokens", options.natural_int, "most tokens to generate (64)"),
    ("min-new-tokens", options.natural_int, "no end of text before so many (0)"),
    ("temperature", _number, "below 1 is bolder, 0 is greedy"),
    ("top-k", options.natural_int, "draw among the k most probable; 0 for no limit"),
    ("top-p", _number, "draw among the smallest set with so much probability"),
    ("repetition-penalty", _number, "above 1 makes repeated tokens less likely"),
)
