"""``profile --host``: probes are built here, timed on the board, and judged here."""

import argparse
import sys
from typing import Any

from merino_edge.cli import options
from merino_edge.cli.output import Progress
from merino_edge.errors import UsageError
from merino_edge.formats.latency_table import LatencyTable


def profile_remote(asked: Any, args: argparse.Namespace) -> LatencyTable:
    """Build, copy, time there, bring the table back.

    Args:
        asked: Which probes, as ``pipeline.profile.ProfileOptions``; how they are timed is taken
            from ``args``, for the board's processor has other cores.
        args: Of ``profile``.

    Raises:
        MerinoError: As ``pipeline.remote.profile.profile_on_board``.
    """
    from merino_edge.pipeline.predicted_table import MOCK
    from merino_edge.pipeline.profile import plan
    from merino_edge.pipeline.remote.profile import Timing, profile_on_board

    if asked.target == MOCK:
        raise UsageError("'{}' is no board: its table is predicted, without --host.".format(MOCK))
    progress = Progress("profile", args.quiet)
    probes, recipe = plan(asked)
    timing = Timing(args.backend, args.threads, args.max_minutes, anew=args.force)
    table = profile_on_board(
        probes,
        recipe,
        args.output,
        args.host,
        timing,
        options.remote_options(args),
        progress.done,
        progress.update,
    )
    progress.done("{} rows".format(len(table.rows)))
    return table


def check(args: argparse.Namespace) -> None:
    """Refuse options that --host and --cancel do not go with.

    Raises:
        UsageError: Names them.
    """
    if not args.host:
        raise UsageError("--cancel needs --host: it ends the measurement on that board.")
    if args.probes or args.show or args.merge or args.build_only:
        raise UsageError(
            "--host builds its probes itself; it goes with no folder of probes, --show, --merge "
            "or --build-only.",
            hint="merino-edge profile --host {} -o {}".format(args.host, args.output),
        )


def cancel(args: argparse.Namespace) -> int:
    """End the measurement on the board, and say whether there was one."""
    from merino_edge.pipeline.remote.profile import cancel_profile

    ended = cancel_profile(args.output, args.host, options.remote_options(args))
    words = "cancelled; what was timed stays there" if ended else "no measurement for it runs there"
    sys.stdout.write(words + "\n")
    return 0
