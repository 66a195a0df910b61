"""Check this machine, or a board over ssh, and say which command mends what is missing.

Example:
  merino-edge doctor
  merino-edge doctor --json
  merino-edge doctor --host user@board

Works on both machines and changes nothing. With --host the board's own merino-edge examines the
board. Exit code 1 if a check fails; warnings are no failure.
"""

import argparse
import sys
from typing import Any, Dict, List

from merino_edge import __version__
from merino_edge.cli import options
from merino_edge.cli.machine import require_workstation
from merino_edge.cli.output import print_json
from merino_edge.errors import MissingDependencyError, UsageError
from merino_edge.formats.jsonio import encode
from merino_edge.formats.manifest import SCHEMA

ENGINE_PACKAGES = ("tensorrt", "tensorrt_rtx")
MARKS = {"ok": "ok   ", "warn": "warn ", "fail": "FAIL "}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_json(parser)
    board = parser.add_argument_group("a board")
    board.add_argument("--host", metavar="USER@BOARD", help="examine that machine, over ssh")
    board.add_argument(
        "--ssh-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of ssh_config, such as Port=2222",
    )
    board.add_argument(
        "--board-program",
        default="",
        metavar="WORDS",
        help="how merino-edge starts on the board, if it is not found",
    )


def run(args: argparse.Namespace) -> int:
    """Examine, print, and fail if a check does."""
    about = _of_board(args) if args.host else _of_this_machine(args)
    if args.json:
        print_json(about)
    else:
        _print(about.get("checks", []))
    return int(not about.get("ok", False))


def _of_board(args: argparse.Namespace) -> Dict[str, Any]:
    require_workstation("examining a board over ssh")
    from merino_edge.pipeline.remote import RemoteOptions
    from merino_edge.pipeline.remote.doctor import doctor_on_board

    how = RemoteOptions(ssh_options=tuple(args.ssh_option), program=args.board_program)
    return doctor_on_board(args.host, how)


def _of_this_machine(args: argparse.Namespace) -> Dict[str, Any]:
    """What a script, or a workstation that is about to send a bundle, asks of this machine."""
    if args.ssh_option or args.board_program:
        raise UsageError("--ssh-option and --board-program need --host.")
    try:
        from merino_edge.runtime import doctor
        from merino_edge.runtime.device_info import is_installed
    except MissingDependencyError:
        raise
    except ImportError as error:  # numpy: without it not even the doctor comes
        raise MissingDependencyError(
            error.name or "numpy",
            "the whole device side",
            "pip install numpy (1.19.5 on Python 3.6)",
        )
    facts = doctor.observe()
    checks = doctor.examine(facts)
    return {
        "ok": all(check.status != "fail" for check in checks),
        "merino_edge": __version__,
        "bundle_schema": SCHEMA,
        "engines": list(filter(is_installed, ENGINE_PACKAGES)),
        "device": encode(facts.device),
        "checks": [encode(check) for check in checks],
    }


def _print(checks: List[Dict[str, str]]) -> None:
    """A check a line; beneath it why it matters, and what mends it."""
    for check in checks:
        mark = MARKS.get(check["status"], "?    ")
        sys.stdout.write("{}{:<16}{}\n".format(mark, check["name"], check["found"]))
        if check["status"] != "ok" and check.get("why"):
            sys.stdout.write("     {:<16}{}\n".format("", check["why"]))
        if check.get("mend"):
            sys.stdout.write("     {:<16}-> {}\n".format("", check["mend"]))
