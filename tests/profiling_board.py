"""A board within this machine that times probes: ``ssh_board`` with our merino-edge on it.

It runs under the Python 3.6 of ``make test-py36`` where that is, from this checkout, with the
native decoder. ``enough`` are as few probes as can be judged.
"""

import contextlib
import json
import os
import signal
import sys

from repository import ROOT
from ssh_board import SshBoard, require_sshd

from merino_edge.core import probe_design
from merino_edge.core.latency_fit import FEWEST_DECODERS
from merino_edge.export.recipe import RECIPES
from merino_edge.formats.probes import ProbeSet
from merino_edge.runtime.profile_journal import JOURNAL

PYTHON36 = ROOT / ".venv36/bin/python"
PYTHON = PYTHON36 if PYTHON36.exists() else sys.executable
LAUNCHER = """#!/bin/sh
[ "$1" != profile ] || echo "$@" >>"$HOME/starts"
export PYTHONPATH={root} PYTHONDONTWRITEBYTECODE=1
exec {python} -m merino_edge "$@"
"""
RECIPE = RECIPES["nano-cpu"]
SPACE_CONTEXT = 96


def probe_set(architectures, roles, lengths=(32,)):
    names = sorted(architectures)
    return ProbeSet(
        space="a few",
        seed=1,
        target="nano-cpu",
        precision=RECIPE.precision,
        context_len=SPACE_CONTEXT,
        lengths=list(lengths),
        anchor=names[len(names) // 2],
        architectures=architectures,
        roles=roles,
    )


def enough():
    """As few probes as can be judged."""
    from merino_edge.core import space as spaces

    space = spaces.get("tiny").replace(max_seq_len=SPACE_CONTEXT)
    return probe_set(*probe_design.choose(space, FEWEST_DECODERS, 2, 1))


class ProfilingBoard(SshBoard):
    """A board whose merino-edge is ours."""

    def __init__(self, folder):
        super().__init__(folder)
        path = self.home / "bin/merino-edge"
        path.write_text(LAUNCHER.format(root=ROOT, python=PYTHON))
        path.chmod(0o755)

    def starts(self):
        """The measurements that were started, in order."""
        path = self.home / "starts"
        return path.read_text().splitlines() if path.exists() else []

    def folders(self):
        """What lies there of measurements."""
        return sorted((self.home / ".cache/merino-edge/bundles").glob("profile-*"))

    def lines(self):
        """The lines of the journal so far, without its head."""
        for path in [path for each in self.folders() for path in each.glob("*.run/" + JOURNAL)]:
            with contextlib.suppress(FileNotFoundError):  # it goes when the table is written
                *whole, _ = path.read_text().split("\n")
                return [json.loads(line) for line in whole[1:]]
        return []

    def cut_power(self):
        """End the measurement and every connection at once, as a board without power would."""
        (folder,) = self.folders()
        os.killpg(int((folder / "job/pid").read_text()), signal.SIGKILL)
        self.break_connections()


@contextlib.contextmanager
def profiling_board(folder):
    """Such a board in a folder that is there, switched on."""
    require_sshd()
    machine = ProfilingBoard(folder)
    machine.start()
    yield machine
    machine.stop()
