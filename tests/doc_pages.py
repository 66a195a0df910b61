"""The blocks of a Markdown page, and a folder in which they are run one after another.

The one idea: what a page tells people to type is typed. A ``sh`` block is taken line by line: a
plain ``merino-edge`` command runs in this process, so that torch is loaded once, and anything else
goes to a shell. ``python`` blocks of a page share their names. A comment before a block marks it::

    <!-- needs: board -->        it is not run here, and why
    <!-- exit: 6 -->             its last command ends with this code

Commands meant for hours are made short by ``SHORTER``, which changes how much is done and never
what is done.
"""

import contextlib
import io
import os
import pathlib
import re
import shlex
import subprocess
import sys
from typing import NamedTuple

from repository import ROOT

from merino_edge.cli.main import main

NEEDS = ("board", "network", "time", "gpu", "data", "package", "compiler", "server")
BLOCK = re.compile(
    r"(?:^<!-- (needs|exit): ([^>]+?) -->\n)?^```(sh|python)\n(.*?)^```$", re.M | re.S
)
SHORTER = (
    (r"--steps \d+", "--steps 3 --batch-size 2 --seq-len 32 --eval-every 3"),
    (r"n_steps = \d+", "n_steps = 3\nbatch_size = 2\nseq_len = 32\neval_every = 3"),
    (r"^merino-edge search", "merino-edge search --candidates 20k"),
    # Of the same kind, and smaller: the proof goes through its chains of widths.
    (r"--space nano --max-params \d+M", "--space tiny --max-params 2M"),
    (r"candidates = \d+", "candidates = 50000"),
    (r"--max-new-tokens \d+", "--max-new-tokens 4"),
    (r"max_new_tokens=\d+", "max_new_tokens=4"),
    (r"^(merino-edge bench \S+).*?(?= -o|$)", r"\1 -p 8 -n 4 -r 2"),
    (r"^(merino-edge tokenize .*)", r"\1 --workers 1"),
    (r"--max-minutes \d+", "--max-minutes 0.2 --fit 16 --held-out 4"),
    (r"--nproc-per-node \d+", "--nproc-per-node 1"),
)
SHELL_CHARACTERS = set("|<>;&$`~*?")


class Block(NamedTuple):
    """One fenced block of a page.

    Attributes:
        language: "sh" or "python".
        text: What stands in it.
        line: Where it begins, from 1.
        needs: Why it is not run here; "" if it is run.
        exit_code: What its last command ends with.
    """

    language: str
    text: str
    line: int
    needs: str = ""
    exit_code: int = 0


def blocks_of(page: str) -> list[Block]:
    """All sh and python blocks of a page, in order."""
    found = []
    for match in BLOCK.finditer(page):
        mark, value, language, text = match.groups()
        line = page.count("\n", 0, match.start(3)) + 1
        needs = value if mark == "needs" else ""
        code = int(value) if mark == "exit" else 0
        found.append(Block(language, text, line, needs, code))
    return found


def commands_of(block: Block) -> list[str]:
    """The commands of a sh block: one a line, a line that ends with a backslash goes on."""
    joined = block.text.replace("\\\n", " ")
    lines = [re.sub(r"\s+# .*$", "", line).strip() for line in joined.splitlines()]
    return [re.sub(r"\s+", " ", line) for line in lines if line and not line.startswith("#")]


def shorter(text: str) -> str:
    """The same, in seconds instead of hours."""
    for pattern, instead in SHORTER:
        text = re.sub(pattern, instead, text, flags=re.M)
    return text


class Reader:
    """Somebody who types what a page says, in a folder of their own."""

    def __init__(self, folder: pathlib.Path):
        self._names: dict[str, object] = {}
        python = os.path.dirname(sys.executable)
        self._environment = {
            **os.environ,
            "PATH": f"{python}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        self.folder = folder

    def type(self, block: Block) -> str:
        """Run a block; gives what was printed, and fails where a command does."""
        if block.language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(shorter(block.text), "page", "exec"), self._names)
            return out.getvalue()
        commands = [shorter(command) for command in commands_of(block)]
        codes = [0] * (len(commands) - 1) + [block.exit_code]
        return "".join(self._run(*each) for each in zip(commands, codes))

    def _run(self, command: str, wanted: int) -> str:
        out, err = io.StringIO(), io.StringIO()
        if command.startswith("merino-edge ") and not SHELL_CHARACTERS & set(_unquoted(command)):
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(shlex.split(command)[1:])
            said, complained = out.getvalue(), err.getvalue()
        else:
            done = subprocess.run(
                ["sh", "-ec", command],
                cwd=self.folder,
                env=self._environment,
                capture_output=True,
                text=True,
            )
            code, said, complained = done.returncode, done.stdout, done.stderr
        assert code == wanted, f"$ {command}\nended with {code}, not {wanted}:\n{complained}"
        return said


def _unquoted(command: str) -> str:
    return re.sub(r"'[^']*'|\"[^\"]*\"", "", command)
