"""Write commands.md: what each command says to ``--help``, word for word.

The one idea: help is written once, in the command's own module. This page is made from it, and a
test asks whether it still is. Lines are 80 columns wide, as argparse lays them out under Python
3.10 to 3.12; later ones spell options otherwise.

    python docs/make_commands.py
"""

import argparse
import contextlib
import importlib
import io
import os
import pathlib

from merino_edge.cli.main import main, overview
from merino_edge.cli.registry import COMMANDS, Command
from merino_edge.formats.jsonio import write_bytes_atomic

PAGE = pathlib.Path(__file__).resolve().parent / "commands.md"
HEAD = """\
# The commands

What each command says to `--help`, made by `python docs/make_commands.py`.
Do not edit it here: the words stand in `merino_edge/cli/commands/`.

```text
{overview}```
"""
MACHINES = {"host": "On the workstation.", "device": "On the board.", "both": "On both machines."}


def page() -> str:
    """The whole page."""
    parts = [HEAD.format(overview=overview())]
    for command in COMMANDS:
        parts.append(f"\n## {command.name}\n\n{MACHINES[command.machine]}\n")
        parts.append(_fenced(help_of(command.name)))
        parts += [_fenced(help_of(command.name, verb)) for verb in verbs_of(command)]
    return "".join(parts)


def help_of(*words: str) -> str:
    """What ``merino-edge WORDS --help`` prints, 80 columns wide."""
    before, out = os.environ.get("COLUMNS"), io.StringIO()
    os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stdout(out):
            code = main([*words, "--help"])
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    assert code == 0, words
    return out.getvalue()


def verbs_of(command: Command) -> list[str]:
    """The verbs below a command, such as ``bundle pack``."""
    module = importlib.import_module("merino_edge.cli.commands." + command.module)
    parser = argparse.ArgumentParser()
    module.configure(parser)
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return [verb for action in below for verb in action.choices]


def _fenced(text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.rstrip().split("\n"))
    return f"\n```text\n{lines}\n```\n"


if __name__ == "__main__":
    write_bytes_atomic(str(PAGE), page().encode("utf-8"))
