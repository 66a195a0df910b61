"""``profile --host``: the probes go to the board, are timed there, and the table comes back.

The one idea: the board measures and the workstation judges. Probes are chosen and built here, for a
board that cannot; there the base package times them and keeps a journal, so that neither a broken
link nor a power cut costs more than the probe that was being timed; here the table is checked,
judged by the decoders that were held out, and written. What a walk to a board is, stands in
``walk``.

All that lies on the board is one folder, named by a checksum over what is timed::

    profile-ID/  probes/  job/  BACKEND-THREADS.json  BACKEND-THREADS.json.run/

It goes when the table is here. This module times nothing itself.
"""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from merino_edge.errors import BoardError, SpecError, UsageError
from merino_edge.export.recipe import Recipe
from merino_edge.formats import jsonio
from merino_edge.formats.bundle import Bundle, sha256_of
from merino_edge.formats.latency_table import LatencyTable, read_table
from merino_edge.formats.probes import PROBES_FILE, ProbeSet, probe_folder, read_probes
from merino_edge.pipeline.profile import PROBES, build_probes, finish, run_folder
from merino_edge.pipeline.remote.board import Board
from merino_edge.pipeline.remote.copying import RemoteFile, files_of
from merino_edge.pipeline.remote.failures import Ended, failure
from merino_edge.pipeline.remote.job import Job, Kind, Outcome, State
from merino_edge.pipeline.remote.link_errors import last_line
from merino_edge.pipeline.remote.ssh import Ssh
from merino_edge.pipeline.remote.walk import Needed, RemoteOptions, Say, Walk, walk_to

Conclude = Callable[[LatencyTable, str], LatencyTable]

# A look at the log starts processes beside what is being timed, so looks are seldom.
MEASUREMENT = Kind("measurement", "times the probes", look_every_s=5)
AGAIN = "the same command"
_LOG_FILE, _TABLE_FILE = "board-log.txt", "board-table.json"
_ID_DIGITS = 12
_NOTE = re.compile(r"^\[\d+:\d\d\] profile: (.*)$")  # as cli.output.Progress writes it

# $1 the folder, $2 the table, $3 "anew" or nothing. A finished table that nobody fetched would be
# refused a successor. Rounds are forgotten only after a measurement that ended: one that a power
# cut ended goes on.
_MAKE_WAY = """
cd "$1" 2>/dev/null || exit 0
rm -f "$2"
if [ "$3" = anew ] && [ -s job/exit ]; then rm -rf "$2.run"; fi
"""
_CLEAR = 'case $1 in */profile-*) rm -rf "$1";; *) exit 1;; esac'


@dataclass(frozen=True)
class Timing:
    """How the board shall time its probes.

    Attributes:
        backend: Which runs them, or "auto" for the fastest there.
        threads: CPU threads; None for all that it has.
        max_minutes: Begin no round after that; None for the board's default.
        anew: Forget the rounds of an earlier measurement that ended.
    """

    backend: str = "auto"
    threads: int | None = None
    max_minutes: float | None = None
    anew: bool = False

    def words(self) -> tuple[str, ...]:
        """As options of ``merino-edge profile``."""
        given = {
            "--backend": self.backend,
            "--threads": self.threads,
            "--max-minutes": self.max_minutes,
        }
        pairs = [(name, str(value)) for name, value in given.items() if value is not None]
        return tuple(word for pair in pairs for word in pair)


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


def profile_on_board(
    probes: ProbeSet,
    recipe: Recipe,
    output: str,
    host: str,
    timing: Timing,
    options: RemoteOptions | None = None,
    on_stage: Say = lambda text: None,
    on_progress: Say = lambda text: None,
    conclude: Conclude = finish,
) -> LatencyTable:
    """Build probes here, time them on a board, and judge and write the table here.

    What is unfinished lies in ``run_folder(output)`` here and in one folder there; the same call
    goes on with both.

    Args:
        probes: What to time.
        recipe: How their bundles are made.
        output: The table's file.
        host: The board, as for ssh.
        timing: How to time.
        options: How to reach the board; its words go to the board's ``merino-edge profile``.
        on_stage: Gets a line when something is done, and what the board says besides progress.
        on_progress: Gets a line about what is going on, many times a second.
        conclude: Judges what came and writes it to ``output``.

    Raises:
        UsageError: The host is not the name of one, or an earlier call asked for something else.
        BoardError: The board cannot be reached, cannot take the work, or vanished.
        UnsupportedError: The board's merino-edge reads other bundles.
        MissingDependencyError: The probes need an engine, and the board has no library for it.
        BoardBuildError: Timing failed there; has the exit code that it had on the board.
        SpecError: The table has too few decoders to be judged; it is kept in the run folder.
        ChecksumError: The table that came is not the one that was measured.
        StoppedError: Ctrl-C; the board goes on.
    """
    options = options or RemoteOptions()
    with walk_to(host, options, MEASUREMENT, AGAIN, on_stage, on_progress) as walk:
        board = walk.reach(recipe.engine() is not None)
        build_probes(probes, _local(output), recipe, on_progress)
        bundles = _bundles(probes, _local(output))
        place = _place(board, content_id(probes, bundles), timing)
        job = _job(walk.ssh, board, place, (*timing.words(), *options.words))
        if walk.patience.keep_trying(job.state) is State.IDLE:
            walk.patience.keep_trying(lambda: make_way(walk.ssh, place, timing.anew))
        size_bytes = sum(bundle.size_bytes for bundle in bundles.values())
        files = _files(bundles, _local(output), place)
        needed = Needed(board, files, size_bytes if recipe.engine() else 0)
        listener = _Listener(host, on_stage, on_progress)
        done = walk.carry_out(job, needed, listener.line, listener.tick)
        measured = _fetched(walk, place, done.outcome, output)
        walk.patience.keep_trying(job.mark_collected)
        table = _concluded(measured, output, conclude)
        _clear(walk, place, on_stage)
        return table


def cancel_profile(output: str, host: str, options: RemoteOptions | None = None) -> bool:
    """End the measurement for a table on a board; whether there was one. Its rounds stay there.

    Args:
        output: The table's file; its run folder has the probes.
        host: The board, as for ssh.
        options: How to reach it.

    Raises:
        UsageError: No measurement for this table was begun here.
        BoardError: The board cannot be reached, or the measurement does not end.
    """
    options = options or RemoteOptions()
    if not os.path.isfile(os.path.join(_local(output), PROBES_FILE)):
        raise UsageError(
            f"no measurement for '{output}' was begun here.",
            hint="name the table that it is for: -o TABLE --host user@board --cancel",
        )
    probes = read_probes(_local(output))
    bundles = _bundles(probes, _local(output))
    with walk_to(host, options, MEASUREMENT, AGAIN, _unheard, _unheard) as walk:
        board = walk.reach(needs_engine=False)
        place = _place(board, content_id(probes, bundles), Timing())
        return _job(walk.ssh, board, place, ()).cancel()


def content_id(probes: ProbeSet, bundles: dict[str, Bundle]) -> str:
    """A checksum over the probes and what their bundles hold, the manifests left out."""
    document = [jsonio.encode(probes), {name: bundles[name].bundle_id for name in bundles}]
    text = json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:_ID_DIGITS]


class _Listener:
    """Tells progress from what stays, in the lines of the board's log."""

    def __init__(self, host: str, on_stage: Say, on_progress: Say):
        self._host, self._on_stage, self._on_progress = host, on_stage, on_progress
        self._last = "is timing the probes"

    def line(self, text: str) -> None:
        note = _NOTE.match(text)
        if note:
            self._last = note.group(1)
            self.tick()
        elif text.strip():
            self._on_stage(f"{self._host}: {text}")

    def tick(self) -> None:
        self._on_progress(f"{self._host}: {self._last}")


def _fetched(walk: Walk, place: Place, outcome: Outcome, output: str) -> LatencyTable:
    """The table of a measurement that ended well, checked."""
    log_path = os.path.join(run_folder(output), _LOG_FILE)
    jsonio.write_bytes_atomic(log_path, outcome.log.encode("utf-8"))
    if outcome.exit_code:
        raise failure(Ended(MEASUREMENT.noun, walk.host, outcome.exit_code, outcome.log, log_path))
    answer = walk.patience.keep_trying(lambda: walk.ssh.run('cat "$1"', place.table))
    if answer.code:
        raise BoardError(
            f"the measurement on '{walk.host}' ended well, but its table cannot be read.",
            last_line(answer.stderr),
            f"{AGAIN} measures again; the board's whole log: {log_path}",
        )
    path = os.path.join(run_folder(output), _TABLE_FILE)
    jsonio.write_bytes_atomic(path, answer.stdout.encode("utf-8"))
    return read_table(path)


def _concluded(measured: LatencyTable, output: str, conclude: Conclude) -> LatencyTable:
    """Judge and write the table; what cannot be judged is kept, and the next call measures anew."""
    try:
        return conclude(measured, output)
    except SpecError as error:
        path = os.path.join(run_folder(output), _TABLE_FILE)
        error.note = " ".join(filter(None, (error.note, f"what was measured is kept: {path}.")))
        raise


def _clear(walk: Walk, place: Place, on_stage: Say) -> None:
    """Leave nothing on the board; the table is safe, so a failure is only told."""
    try:
        walk.patience.keep_trying(lambda: walk.ssh.run(_CLEAR, place.folder))
    except BoardError as error:
        on_stage(f"warning: {place.folder} stays on '{walk.host}': {error.message}")


def make_way(ssh: Ssh, place: Place, anew: bool) -> None:
    """Make room for the table of a measurement that is about to start.

    Args:
        ssh: The connection.
        place: Where.
        anew: Forget its rounds too, if they are of a measurement that ended.
    """
    ssh.run(_MAKE_WAY, place.folder, place.table, "anew" if anew else "")


def _local(output: str) -> str:
    return os.path.join(run_folder(output), PROBES)


def _bundles(probes: ProbeSet, local: str) -> dict[str, Bundle]:
    return {name: Bundle.open(probe_folder(local, name)) for name in probes.architectures}


def _place(board: Board, content: str, timing: Timing) -> Place:
    folder = f"{board.folder}/profile-{content}"
    return Place(folder, f"{folder}/{timing.backend}-{timing.threads or 'all'}.json")


def _job(ssh: Ssh, board: Board, place: Place, words: tuple[str, ...]) -> Job:
    command = (*board.program, "profile", place.probes, "-o", place.table, *words, "--json")
    return Job(ssh, MEASUREMENT, place.job, command, place.folder, uuid.uuid4().hex)


def _files(bundles: dict[str, Bundle], local: str, place: Place) -> list[RemoteFile]:
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


def _unheard(text: str) -> None:
    pass
