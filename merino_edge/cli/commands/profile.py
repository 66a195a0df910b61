"""Time a few dozen decoders on this machine, and write a table that a search can believe.

Example:
  merino-edge profile --target host --precision int4 --space tiny -o table.json
  merino-edge profile --target host --space paper --threads 1 --max-minutes 20 -o table.json
  merino-edge profile --target nano --space nano --build-only probes/
  merino-edge profile probes/ -o table.json
  merino-edge profile --target nano-cpu --space nano --host user@board -o table.json
  merino-edge profile --merge monday.json tuesday.json -o both.json
  merino-edge profile --show table.json --report table.html
  merino-edge search --latency-table table.json --max-latency-ms 5 -o arch.json

The first two choose decoders of a space, build them with random weights, time them here, fit a
model of latency to some and judge it by the others. What it takes is bounded by --max-minutes; an
interrupted measurement goes on when the same command is given again. The third only builds the
decoders, for a board that cannot; the fourth times them there. The workstation judges such a table
when it reads it. The fifth does all of it over ssh: builds here, times on the board, judges here;
whatever interrupts it, the same command goes on, and Ctrl-C leaves the board at work. --merge puts
tables of one setting together; --show says what a table is worth and measures nothing. --report
draws it on a page, on the workstation.

Keep the machine quiet meanwhile, and on a board fix the clocks. Times are those of whole decoders
at the speed that an anchor, timed beside each of them, showed as a rule.
"""

import argparse
import os
import sys
from typing import Any

from merino_edge.cli import options
from merino_edge.cli.latency_card import card, print_validation, summary_of
from merino_edge.cli.machine import is_workstation, require_workstation
from merino_edge.cli.output import Progress, print_json, warn
from merino_edge.errors import UsageError
from merino_edge.formats.latency_merge import merge
from merino_edge.formats.latency_table import LatencyTable, read_table, write_table


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    _add_decoders(parser)
    _add_measuring(parser)
    _add_tables(parser)
    options.add_board(parser.add_argument_group("on a board"), "time them", "measurement")
    options.add_seed(parser)
    options.add_force(parser)
    options.add_json(parser)
    options.add_quiet(parser)


def _add_decoders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("probes", nargs="?", help="a folder of built probes, to time them here")
    parser.add_argument("--target", default="host", help="what the bundles are built for (host)")
    parser.add_argument(
        "--space",
        metavar="NAME|FILE",
        help="a preset or a file, as in search (target's)",
    )
    parser.add_argument(
        "--context",
        type=options.positive_int,
        metavar="TOKENS",
        help="longest sequence (space's)",
    )
    parser.add_argument(
        "--precision",
        choices=options.PRECISIONS,
        help="of the weights (the target's)",
    )
    options.add_backend(parser)


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fit", type=options.positive_int, default=40, metavar="N", help="decoders to fit to (40)"
    )
    parser.add_argument(
        "--held-out",
        type=options.natural_int,
        default=28,
        metavar="N",
        help="decoders to judge by (28)",
    )
    parser.add_argument(
        "--max-minutes",
        type=options.positive_float,
        default=20.0,
        metavar="M",
        help="begin no round after that (20)",
    )
    parser.add_argument("--build-only", action="store_true", help="build the probes and stop")


def _add_tables(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--merge", nargs="+", metavar="TABLE", help="put tables together")
    parser.add_argument("--unlike", action="store_true", help="merge unlike tables too")
    parser.add_argument("--show", metavar="TABLE", help="print what a table is worth, and stop")
    parser.add_argument("-o", "--output", default="table.json", help="the table (table.json)")
    parser.add_argument("--report", metavar="FILE", help="HTML page of the table, to look at")


def run(args: argparse.Namespace) -> int:
    """Measure, merge or read, and print what the table is worth."""
    if args.host or args.cancel:
        require_workstation("timing on a board over ssh")
        from merino_edge.cli import profile_remote

        profile_remote.check(args)
        if args.cancel:
            return profile_remote.cancel(args)
    if args.build_only:
        return _build(args)
    _refuse_what_cannot_be_written(args)
    table, path = _table(args), args.show or args.output
    if args.report:
        table = _drawn(table, args.report)
    if args.json:
        print_json(summary_of(table))
    else:
        sys.stdout.write("\n".join(card(table)) + "\n")
        print_validation(table)
        sys.stdout.write("next: merino-edge search --latency-table {} --max-latency-ms MS\n".format(
            path))  # fmt: skip
    for text in table.conditions.warnings:
        warn(text)
    return 0


def _refuse_what_cannot_be_written(args: argparse.Namespace) -> None:
    """Before anything is measured."""
    if args.show and (args.merge or args.probes or args.build_only):
        raise UsageError(
            "--show reads one table; it measures, builds and merges nothing.",
            hint="merino-edge profile --show {}".format(args.show),
        )
    if not args.show:
        options.refuse_to_replace(args.output, args.force)
    if args.report:
        _refuse_to_draw_on_a_board(args)
        _refuse_to_draw_over_the_table(args)
        options.refuse_to_replace(args.report, args.force)


def _refuse_to_draw_on_a_board(args: argparse.Namespace) -> None:
    try:
        require_workstation("--report")
    except UsageError as error:
        error.hint = (
            "copy the table to a workstation: merino-edge profile --show {} --report {}".format(
                os.path.basename(args.show or args.output), args.report
            )
        )
        raise


def _refuse_to_draw_over_the_table(args: argparse.Namespace) -> None:
    table = args.show or args.output
    if os.path.realpath(args.report) == os.path.realpath(table):
        raise UsageError(
            "'{}' is the table; its page needs a file of its own.".format(table),
            hint="--report {}.html".format(os.path.splitext(table)[0]),
        )


def _table(args: argparse.Namespace) -> LatencyTable:
    if args.show:
        return _judged(read_table(args.show))
    if args.merge:
        return _merged(args)
    if args.probes and not args.build_only:
        return _measured(args)
    require_workstation("choosing and building probes")
    return _profiled(args)  # type: ignore[no-any-return]


def _judged(table: LatencyTable) -> LatencyTable:
    """With a validation, where it can have one: not on a board, whose package has no scipy."""
    if not is_workstation():
        return table
    try:
        from merino_edge.core.latency_check import judged
    except ImportError:
        return table
    return judged(table)


def _drawn(table: LatencyTable, path: str) -> LatencyTable:
    """Judge a table and write its page."""
    from merino_edge.pipeline.latency_page import write_latency_page

    judged = _judged(table)
    write_latency_page(path, judged)
    return judged


def _merged(args: argparse.Namespace) -> LatencyTable:
    table = merge([read_table(path) for path in args.merge], args.unlike)
    write_table(args.output, table)
    return table


def _measured(args: argparse.Namespace) -> LatencyTable:
    """Time the probes of a folder: what a board does."""
    from merino_edge.formats.probes import read_probes
    from merino_edge.runtime import load
    from merino_edge.runtime.profiler import Limits, measure

    progress = Progress("profile", args.quiet)
    folder = args.output + ".run"
    _forget(folder, args.force)
    threads = _threads(args)
    table = measure(
        read_probes(args.probes),
        args.probes,
        folder,
        lambda bundle: load(bundle.path, args.backend, threads),
        threads,
        Limits(60.0 * args.max_minutes),
        progress.update,
    )
    write_table(args.output, table)
    _forget(folder, True)
    progress.done("{} rows".format(len(table.rows)))
    return table


def _build(args: argparse.Namespace) -> int:
    """Build the probes for a board that is not reached from here."""
    require_workstation("choosing and building probes")
    from merino_edge.pipeline.profile import build_probes, plan

    if not args.probes:
        raise UsageError(
            "--build-only needs a folder for the probes.",
            hint="merino-edge profile --target nano --space nano --build-only probes/",
        )
    progress = Progress("profile", args.quiet)
    _forget(args.probes, args.force)
    probes, recipe = plan(_asked(args))
    build_probes(probes, args.probes, recipe, progress.update)
    progress.done("{} probes".format(len(probes.architectures)))
    sys.stdout.write("next: copy {0} to the board, and there: merino-edge profile {0}\n".format(
        args.probes))  # fmt: skip
    return 0


def _profiled(args: argparse.Namespace) -> Any:
    from merino_edge.pipeline.profile import profile, run_folder

    progress = Progress("profile", args.quiet)
    _forget(run_folder(args.output), args.force)
    asked = _asked(args)
    if args.host:
        from merino_edge.cli.profile_remote import profile_remote

        return profile_remote(asked, args)
    table = profile(asked, args.output, progress.update)
    progress.done("{} rows".format(len(table.rows)))
    return table


def _asked(args: argparse.Namespace) -> Any:
    from merino_edge.cli.space_option import chosen_space
    from merino_edge.core import targets
    from merino_edge.pipeline.profile import ProfileOptions
    from merino_edge.runtime.profiler import Limits

    target = targets.get(args.target)
    return ProfileOptions(
        space=chosen_space(args.space, args.context, target),
        target=target.name,
        precision=args.precision,
        backend=args.backend,
        threads=_threads(args),
        n_fit=args.fit,
        n_held_out=args.held_out,
        seed=args.seed,
        limits=Limits(60.0 * args.max_minutes),
    )


def _threads(args: argparse.Namespace) -> int:
    from merino_edge.runtime.device_info import device_info

    return args.threads or device_info().n_cores


def _forget(folder: str, really: bool) -> None:
    import shutil

    if really and os.path.isdir(folder):
        shutil.rmtree(folder)
