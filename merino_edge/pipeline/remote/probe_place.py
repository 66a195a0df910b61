"""What of a measurement lies on the board: one folder, and how it is named, filled and cleared.

The one idea: the folder is named by a checksum over what is timed, so the same call finds what an
earlier one left, and another call never does. In it, by backend and threads, lie a table and the
journal of its rounds::

    profile-ID/  probes/  job/  BACKEND-THREADS.json  BACKEND-THREADS.json.run/

A walk to the board, and what is done with a table, are not known here (``profile``).
"""

import hashlib
import json
import os
import uuid
from dataclasses import replace
from typing import NamedTuple

from merino_edge.formats import jsonio
from merino_edge.formats.bundle import Bundle, sha256_of
from merino_edge.formats.probes import PROBES_FILE, ProbeSet
from merino_edge.pipeline.profile import PROBES
from merino_edge.pipeline.remote.board import Board
from merino_edge.pipeline.remote.copying import RemoteFile, files_of
from merino_edge.pipeline.remote.job import Job, Kind
from merino_edge.pipeline.remote.ssh import Ssh

# A look at the log starts processes beside what is being timed, so looks are seldom.
MEASUREMENT = Kind("measurement", "times the probes", look_every_s=5)
_ID_DIGITS = 12

# $1 the folder, $2 the table, $3 "anew" or nothing. A finished table that nobody fetched would be
# refused a successor. Rounds are forgotten only after a measurement that ended: one that a power
# cut ended goes on.
_MAKE_WAY = """
cd "$1" 2>/dev/null || exit 0
rm -f "$2"
if [ "$3" = anew ] && [ -s job/exit ]; then rm -rf "$2.run"; fi
"""
_CLEAR = 'case $1 in */profile-*) rm -rf "$1";; *) exit 1;; esac'


class Place(NamedTuple):
    """Where things lie on the board.

    Attributes:
        folder: All of them; an absolute path.
        table: The table, once it is measured; its journal lies in the run folder beside it.
    """

    folder: str
    table: str

    @property
    def probes(self) -> str:
        """The folder of probes."""
        return f"{self.folder}/{PROBES}"

    @property
    def job(self) -> str:
        """The folder of the job."""
        return f"{self.folder}/job"


def content_id(probes: ProbeSet, bundles: dict[str, Bundle]) -> str:
    """A checksum over the probes and what their bundles hold, the manifests left out."""
    document = [jsonio.encode(probes), {name: bundles[name].bundle_id for name in bundles}]
    text = json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:_ID_DIGITS]


def place_of(board: Board, content: str, backend: str, threads: int | None) -> Place:
    """The place of a measurement: the same for the same probes, backend and threads."""
    folder = f"{board.folder}/profile-{content}"
    return Place(folder, f"{folder}/{backend}-{threads or 'all'}.json")


def job_at(ssh: Ssh, board: Board, place: Place, words: tuple[str, ...]) -> Job:
    """The measurement, to be started or found at work there; ``words`` are its options."""
    command = (*board.program, "profile", place.probes, "-o", place.table, *words, "--json")
    return Job(ssh, MEASUREMENT, place.job, command, place.folder, uuid.uuid4().hex)


def files_for(bundles: dict[str, Bundle], local: str, place: Place) -> list[RemoteFile]:
    """Every file of every probe, and at last the file that names them."""
    files = []
    for i, (name, bundle) in enumerate(bundles.items()):
        label = f"probe {i + 1} of {len(bundles)}, "
        its_files = files_of(bundle, f"{place.probes}/{name}")
        files += [replace(file, name=label + file.name) for file in its_files]
    path, there = os.path.join(local, PROBES_FILE), f"{place.probes}/{PROBES_FILE}"
    return [
        *files,
        RemoteFile(PROBES_FILE, path, there, os.path.getsize(path), sha256_of(path)),
    ]


def make_way(ssh: Ssh, place: Place, anew: bool) -> None:
    """Make room for the table of a measurement that is about to start.

    Args:
        ssh: The connection.
        place: Where.
        anew: Forget its rounds too, if they are of a measurement that ended.
    """
    ssh.run(_MAKE_WAY, place.folder, place.table, "anew" if anew else "")


def clear(ssh: Ssh, place: Place) -> None:
    """Leave nothing on the board."""
    ssh.run(_CLEAR, place.folder)
