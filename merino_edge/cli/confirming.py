"""``search --confirm``: where finalists are timed, and what is kept of an interrupted search."""

import argparse
import os
from typing import Any

from merino_edge.cli.options import remote_options
from merino_edge.cli.output import Progress
from merino_edge.errors import UsageError


def refuse(options: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        UsageError: Names them.
    """
    if options.host and not options.confirm:
        raise UsageError("--host is where finalists are timed, and needs --confirm.")
    if options.confirm and not (options.latency_table and options.max_latency_ms):
        raise UsageError(
            "--confirm needs --latency-table and --max-latency-ms.",
            hint="merino-edge profile -o table.json makes a table of this machine.",
        )


def bench(table: Any, space: Any, options: argparse.Namespace, progress: Progress) -> Any:
    """What times finalists: this machine, or a board."""
    if not options.host:
        from merino_edge.pipeline.measured_search import Bench

        return Bench(table, space.max_seq_len, progress.done)
    from merino_edge.pipeline.remote.finalist import BoardBench

    return BoardBench(
        table,
        space.max_seq_len,
        options.host,
        _finalists(options),
        remote_options(options),
        progress.done,
        progress.update,
    )


def forget(options: argparse.Namespace) -> None:
    """Remove what an interrupted search left."""
    import shutil

    from merino_edge.search import saved

    shutil.rmtree(_finalists(options), ignore_errors=True)
    saved.forget(options.output + ".run")


def _finalists(options: argparse.Namespace) -> str:
    """Where what a board measured is kept until the search has ended."""
    return os.path.join(options.output + ".run", "finalists")
