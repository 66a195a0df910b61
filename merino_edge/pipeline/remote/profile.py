"""``profile --host``: the probes go to the board, are timed there, and the table comes back.

The one idea: the board measures and the workstation judges. Probes are chosen and built here, for a
board that cannot; there the base package times them and keeps a journal, so that neither a broken
link nor a power cut costs more than the probe that was being timed; here the table is checked,
judged by the decoders that were held out, and written. What a walk to a board is, stands in
``walk``; what lies there, and goes when the table is here, in ``probe_place``. This module times
nothing itself.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from merino_edge.errors import BoardError, SpecError, UsageError
from merino_edge.export.recipe import Recipe
from merino_edge.formats import jsonio
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.latency_table import LatencyTable, read_table
from merino_edge.formats.probes import PROBES_FILE, ProbeSet, probe_folder, read_probes
from merino_edge.pipeline.profile import PROBES, build_probes, finish, run_folder
from merino_edge.pipeline.remote.failures import Ended, failure
from merino_edge.pipeline.remote.job import Outcome, State
from merino_edge.pipeline.remote.link_errors import last_line
from merino_edge.pipeline.remote.probe_place import (
    MEASUREMENT,
    Place,
    clear,
    content_id,
    files_for,
    job_at,
    make_way,
    place_of,
)
from merino_edge.pipeline.remote.walk import Needed, RemoteOptions, Say, Walk, walk_to

Conclude = Callable[[LatencyTable, str], LatencyTable]

AGAIN = "the same command"
_LOG_FILE, _TABLE_FILE = "board-log.txt", "board-table.json"
_NOTE = re.compile(r"^\[\d+:\d\d\] profile: (.*)$")  # as cli.output.Progress writes it


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
        place = place_of(board, content_id(probes, bundles), timing.backend, timing.threads)
        job = job_at(walk.ssh, board, place, (*timing.words(), *options.words))
        if walk.patience.keep_trying(job.state) is State.IDLE:
            walk.patience.keep_trying(lambda: make_way(walk.ssh, place, timing.anew))
        size_bytes = sum(bundle.size_bytes for bundle in bundles.values())
        files = files_for(bundles, _local(output), place)
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
        place = place_of(board, content_id(probes, bundles), Timing.backend, Timing.threads)
        return job_at(walk.ssh, board, place, ()).cancel()


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
        walk.patience.keep_trying(lambda: clear(walk.ssh, place))
    except BoardError as error:
        on_stage(f"warning: {place.folder} stays on '{walk.host}': {error.message}")


def _local(output: str) -> str:
    return os.path.join(run_folder(output), PROBES)


def _bundles(probes: ProbeSet, local: str) -> dict[str, Bundle]:
    return {name: Bundle.open(probe_folder(local, name)) for name in probes.architectures}


def _unheard(text: str) -> None:
    pass
