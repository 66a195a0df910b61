"""Serve a bundle over HTTP: OpenAI's API, figures for Prometheus, and a page to chat with.

With --socket it listens on a file instead, for programs on this machine; no port is open then.

Example:
  merino-edge serve bundle/
  merino-edge serve bundle/ --socket /run/merino-edge/socket
  merino-edge serve bundle/ --host 0.0.0.0 --token-file token.txt --sessions 2

Then open http://127.0.0.1:8080/ in a browser, or point any OpenAI client to
http://127.0.0.1:8080/v1. Without a token only this machine is served; --host lets others in and
wants a file of tokens, one a line. Paths: /v1/completions, /v1/chat/completions, /v1/models,
/health, /metrics. Ctrl-C or SIGTERM stops it: what runs may end within --grace seconds, and a
second one ends it at once. Works on both machines.
"""

import argparse
import signal
import threading
from typing import Any, Callable, List, Tuple

from merino_edge.cli import options
from merino_edge.cli.output import Progress, human_bytes, warn
from merino_edge.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", help="the folder")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=_port, help="0 for any that is free (8080)")
    parser.add_argument(
        "--socket", metavar="PATH", help="a UNIX socket that speaks JSON lines, and no HTTP"
    )
    parser.add_argument("--token-file", metavar="FILE", help="clients must show one of its tokens")
    options.add_backend(parser)
    for name, kind, metavar, default, text in _BOUNDS:
        shown = "" if default is None else " ({})".format(default)
        parser.add_argument(
            "--" + name, type=kind, metavar=metavar, default=default, help=text + shown
        )
    options.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Open, listen, wait for the end."""
    from merino_edge.formats.bundle import Bundle
    from merino_edge.runtime.heap import keep_one_heap
    from merino_edge.runtime.service_notify import service as systemd
    from merino_edge.runtime.serving.pool import open_sessions
    from merino_edge.runtime.serving.web.access import check_binding
    from merino_edge.runtime.serving.web.service import serving

    host, port = _address(args)
    tokens = _tokens(args.token_file)
    check_binding(host, tokens)  # before minutes of building an engine
    keep_one_heap()  # of this process, so it is the command's to decide
    progress = Progress("serve", args.quiet)
    sessions = open_sessions(args.bundle, args.sessions, args.backend, args.threads, progress.done)
    kv_bytes = sum(session.backend.kv_cache_bytes for session in sessions)
    progress.done("{} sessions, {} of cache".format(len(sessions), human_bytes(kv_bytes)))
    limits, web_limits = _limits(args)
    if args.socket is not None:
        return _serve_socket(args, sessions, limits, progress)
    fingerprint = Bundle.open(args.bundle).bundle_id
    with serving(
        sessions, fingerprint, host, port, tokens, limits, web_limits, on_fault=warn
    ) as service:
        stop_asked = _stop_on_signal(lambda: service.scheduler.stop(0.0))
        progress.done("http://{}:{}/".format(_in_url(host), service.server.port))
        with systemd(lambda: service.scheduler.is_well):
            stop_asked.wait()
        progress.done("stopping: {} requests run".format(service.scheduler.n_running))
        service.stop(args.grace)
    return 0


def _serve_socket(args: argparse.Namespace, sessions: Any, limits: Any, progress: Progress) -> int:
    from merino_edge.runtime.service_notify import service as systemd
    from merino_edge.runtime.serving.socket_service import serving_socket

    with serving_socket(sessions, args.socket, limits, on_note=warn) as scheduler:
        stop_asked = _stop_on_signal(lambda: scheduler.stop(0.0))
        progress.done(args.socket)
        with systemd(lambda: scheduler.is_well):
            stop_asked.wait()
        progress.done("stopping: {} requests run".format(scheduler.n_running))
        scheduler.stop(args.grace)
    return 0


def _address(args: argparse.Namespace) -> Tuple[str, int]:
    """Where HTTP is spoken; what was given for HTTP alone does not go with a socket."""
    given = [name for name in ("host", "port", "token_file") if getattr(args, name) is not None]
    if args.socket is not None and given:
        raise UsageError(
            "--{} is for HTTP, and --socket opens no port.".format(given[0].replace("_", "-")),
            hint="who may use the socket is decided by the folder that it lies in.",
        )
    return args.host or "127.0.0.1", 8080 if args.port is None else args.port


def _port(text: str) -> int:
    port = options.natural_int(text)
    if port > 65535:
        raise UsageError("there is no port {}; the last is 65535.".format(port))
    return port


def _tokens(path: Any) -> List[str]:
    from merino_edge.runtime.serving.web.access import others_may_read, read_tokens

    if path is None:
        return []
    tokens = read_tokens(path)
    if others_may_read(path):
        warn("other users can read '{}'; chmod 600 keeps them out.".format(path))
    return tokens


def _limits(args: argparse.Namespace) -> Any:
    """Those of the queue, and those of HTTP."""
    from merino_edge.runtime.serving.scheduler import Limits
    from merino_edge.runtime.serving.web.limits import WebLimits

    of_queue = Limits(
        args.queue, args.queue_per_client or args.queue, args.max_prompt_tokens, args.max_tokens
    )
    of_web = WebLimits(
        connections=args.connections, body_bytes=args.max_body, request_s=args.time_limit
    )
    return of_queue, of_web


def _stop_on_signal(hurry: Callable[[], None]) -> threading.Event:
    """An event that SIGINT and SIGTERM set; a second one calls ``hurry``."""
    asked = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            hurry()
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    return asked


def _in_url(host: str) -> str:
    return "[{}]".format(host) if ":" in host else host


_BOUNDS = (
    ("sessions", options.positive_int, "N", None, "texts at a time (native: 4, others: 1)"),
    ("queue", options.positive_int, "N", 64, "requests that may wait"),
    ("queue-per-client", options.positive_int, "N", None, "of one client (as --queue)"),
    ("connections", options.positive_int, "N", 64, "open connections"),
    ("max-body", options.count, "SIZE", 256000, "bytes of a request"),
    ("max-prompt-tokens", options.positive_int, "N", None, "longest prompt (the context)"),
    ("max-tokens", options.positive_int, "N", None, "longest answer (the context)"),
    ("time-limit", options.positive_float, "S", 300.0, "seconds for a request, waiting included"),
    ("grace", options.positive_float, "S", 5.0, "seconds for what runs when asked to stop"),
)
