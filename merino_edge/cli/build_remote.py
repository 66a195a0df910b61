"""``build --host``: the bundle goes to the board, and its engine is built there."""

import argparse
import sys
from typing import Any

from merino_edge.cli import options
from merino_edge.cli.output import Progress, print_json
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.jsonio import encode


def build_remote(bundle: Bundle, args: argparse.Namespace) -> int:
    """Copy, build, verify there, and print the board's card.

    Raises:
        MerinoError: As ``pipeline.remote.build_on_board``.
    """
    from merino_edge.pipeline.remote import build_on_board, cancel_on_board

    how = _options(bundle, args)
    if args.cancel:
        ended = cancel_on_board(bundle, args.host, how)
        sys.stdout.write("cancelled\n" if ended else "no build of this bundle runs there\n")
        return 0
    progress = Progress("board", args.quiet)
    report = build_on_board(bundle, args.host, how, progress.done, progress.update)
    if args.json:
        print_json(encode(report))
    else:
        sys.stdout.write("\n".join(report.card()) + "\n")
    return 0


def _options(bundle: Bundle, args: argparse.Namespace) -> Any:
    words = [] if args.workspace is None else ["--workspace", str(args.workspace)]
    # beside a checkpoint --force replaces the bundle here; beside a bundle, the engine there
    words += ["--force"] * (args.force and args.source == bundle.path)
    return options.remote_options(args, words)
