"""Pick a command, import only that one, turn errors into exit codes.

Exit codes: 0 ok, 1 failure, 2 usage, 3 incompatible, 4 memory, 5 verification failed, 6 budget
missed, 7 board unreachable, 8 integrity, 130 interrupted.
"""

import argparse
import errno
import importlib
import os
import sys
from typing import List, NoReturn, Optional

from merino_edge import __version__
from merino_edge.cli.machine import is_workstation, require_workstation
from merino_edge.cli.output import use_utf8
from merino_edge.cli.registry import COMMANDS, Command
from merino_edge.errors import MerinoError, MissingDependencyError, UsageError


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaints are UsageErrors, like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing and leaving."""
        raise UsageError(message, hint="{} --help".format(self.prog))


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command line; returns the exit code and never raises a user's error."""
    use_utf8()
    arguments = sys.argv[1:] if argv is None else argv
    try:
        return _dispatch(arguments)
    except MerinoError as error:
        return _print_merino_error(error)
    except ModuleNotFoundError as error:
        return _print_merino_error(_missing_package(error, arguments[0]))
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted.\n")
        return 130
    except BrokenPipeError:
        # The reader of our stdout has left (`| head`): no error, but Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        _print_os_error(error)
        return 1


def _dispatch(arguments: List[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0
    if arguments[0] in ("--version", "version"):
        sys.stdout.write("merino-edge {}\n".format(__version__))
        return 0
    command = _find(arguments[0])
    asks_help = any(word in ("-h", "--help") for word in arguments[1:])
    _check_machine(command, asks_help)
    module = importlib.import_module("merino_edge.cli.commands." + command.module)
    parser = Parser(
        prog="merino-edge " + command.name,
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.configure(parser)
    try:
        options = parser.parse_args(arguments[1:])
    except SystemExit as leaving:  # argparse leaves after printing --help
        return int(leaving.code or 0)
    return int(module.run(options))


def overview() -> str:
    """What ``merino-edge --help`` prints."""
    lines = ["merino-edge: a language model that fits your board.", "", "commands:"]
    for command in COMMANDS:
        where = "" if command.machine == "both" else " [{}]".format(command.machine)
        lines.append("  {:<9} {}{}".format(command.name, command.summary, where))
    lines += ["", "Each answers --help with an example.", ""]
    return "\n".join(lines)


def _find(name: str) -> Command:
    for command in COMMANDS:
        if command.name == name:
            return command
    import difflib

    near = difflib.get_close_matches(name, [command.name for command in COMMANDS], n=1)
    hint = (
        "did you mean '{}'?".format(near[0]) if near else "merino-edge --help lists the commands."
    )
    raise UsageError("there is no command '{}'.".format(name), hint=hint)


def _check_machine(command: Command, asks_help: bool) -> None:
    if command.machine == "host" and not asks_help:
        require_workstation("'{}'".format(command.name))


def _missing_package(error: ModuleNotFoundError, command: str) -> MerinoError:
    """What an extra would have brought; a module of ours that is missing is our own mistake."""
    package = (error.name or "merino_edge").partition(".")[0]
    if package == "merino_edge":
        raise error
    extra = "host" if is_workstation() else "device"
    hint = "pip install 'merino-edge[{}]'".format(extra)
    return MissingDependencyError(package, "'{}'".format(command), hint)


def _print_merino_error(error: MerinoError) -> int:
    _print_error(error.message, error.note, error.hint)
    return error.exit_code


def _print_error(message: str, note: Optional[str], hint: Optional[str]) -> None:
    lines = ["error: " + message]
    lines += ["note: " + note] if note else []
    lines += ["hint: " + hint] if hint else []
    sys.stderr.write("\n".join(lines) + "\n")


def _print_os_error(error: OSError) -> None:
    hints = {
        errno.ENOSPC: "free some space, or write to another disk; nothing half-written was left.",
        errno.EFBIG: "the file is larger than this disk or shell allows.",
        errno.EACCES: "check who owns the folder.",
    }
    where = " '{}'".format(error.filename) if error.filename else ""
    _print_error("{}{}.".format(error.strerror or error, where), None, hints.get(error.errno or 0))
