"""The way to a board and back: what a build and a measurement there have in common.

The one idea: each part can be asked for again at any time. Copying goes on where it was, starting
finds the work that already runs, following begins at the byte that was read last, and a result
that nobody fetched waits. So a broken connection, a Ctrl-C or a closed laptop costs nothing but
the time until the same command is typed. This module does not know what the work is good for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from merino_edge.errors import StoppedError
from merino_edge.pipeline.quantities import human
from merino_edge.pipeline.remote.board import Board, ask_board, check_room
from merino_edge.pipeline.remote.copying import Copied, Copying, RemoteFile, missing_bytes
from merino_edge.pipeline.remote.job import Job, Kind, Outcome, State
from merino_edge.pipeline.remote.patience import Patience
from merino_edge.pipeline.remote.ssh import Ssh

Say = Callable[[str], None]
REMOTE_DIR = "~/.cache/merino-edge/bundles"
GIVE_UP_AFTER_S = 600.0


@dataclass(frozen=True)
class RemoteOptions:
    """How to reach the board and what to tell its merino-edge.

    Attributes:
        ssh_options: Settings of ssh_config, such as "Port=2222".
        remote_dir: Folder for bundles on the board; "~" is the home there.
        program: How merino-edge starts there; "" looks for it.
        words: More words for the board's command.
        give_up_after_s: Seconds without any progress after which a broken connection is final.
    """

    ssh_options: tuple[str, ...] = ()
    remote_dir: str = REMOTE_DIR
    program: str = ""
    words: tuple[str, ...] = ()
    give_up_after_s: float = GIVE_UP_AFTER_S


class Done(NamedTuple):
    """A job that has ended.

    Attributes:
        copied: What was copied for it.
        attached: It had been started by an earlier call.
        outcome: How it ended.
    """

    copied: Copied
    attached: bool
    outcome: Outcome


class Walk:
    """One call of ours on one board.

    Args:
        ssh: A connection that is not open yet.
        options: How to reach the board.
        again: The command that goes on after all was given up.
        on_stage: Gets a line when something is done.
        on_progress: Gets a line about what is going on, many times a second.

    Attributes:
        ssh: As given.
        patience: Mends the connection.
        host: The board, as the user wrote it.
    """

    def __init__(
        self, ssh: Ssh, options: RemoteOptions, again: str, on_stage: Say, on_progress: Say
    ):
        self.ssh, self.host = ssh, ssh.host
        self.patience = Patience(ssh, options.give_up_after_s, again, on_stage)
        self._options = options
        self._on_stage, self._on_progress = on_stage, on_progress

    def reach(self, needs_engine: bool) -> Board:
        """Connect, and find out what is there.

        Args:
            needs_engine: The work builds engines.

        Raises:
            BoardError, UnsupportedError, MissingDependencyError: As ``board.ask_board``.
        """
        self._on_progress(f"connecting to {self.host}")
        self.ssh.connect()
        o = self._options
        board = self.patience.keep_trying(
            lambda: ask_board(self.ssh, o.remote_dir, o.program, needs_engine)
        )
        for warning in board.warnings:
            self._on_stage(f"warning: {self.host}: {warning}")
        return board

    def carry_out(
        self, job: Job, needed: "Needed", on_line: Say, on_tick: Callable[[], None]
    ) -> Done:
        """Find the job there or copy what it needs and start it; then follow it to its end.

        Args:
            job: What to do.
            needed: What it needs.
            on_line: Gets each line of its log once.
            on_tick: Called at least about once a second.

        Raises:
            BoardError: The board did not come back, has too little room, is busy with other work
                on the same files, or the job vanished.
            ChecksumError: A file here is not what it should be.
        """
        copied = Copied()
        attached = self.patience.keep_trying(job.state) in (State.RUNNING, State.DONE)
        if not attached:
            copied = self._copy(needed)
            attached = self.patience.keep_trying(job.start) is State.RUNNING
        found = f"found the {job.kind.noun} that {self.host} has already"
        self._on_stage(found if attached else f"{self.host} {job.kind.verb}")
        return Done(copied, attached, job.follow(self.patience, on_line, on_tick))

    def _copy(self, needed: "Needed") -> Copied:
        missing = self.patience.keep_trying(lambda: missing_bytes(self.ssh, needed.files))
        check_room(self.ssh, needed.board, missing, needed.engine_bytes)
        copied = Copying(self.ssh, self.patience, self._on_progress).copy(needed.files)
        self._on_stage(
            f"copied {human(copied.sent_bytes, 'B')} in {copied.elapsed_s:.0f} s, "
            f"{human(copied.skipped_bytes, 'B')} were there"
        )
        return copied


class Needed(NamedTuple):
    """What a job needs on the board.

    Attributes:
        board: The board.
        files: What shall be there.
        engine_bytes: Room that its engines will take, about.
    """

    board: Board
    files: list[RemoteFile]
    engine_bytes: int


@contextmanager
def walk_to(
    host: str, options: RemoteOptions, kind: Kind, again: str, on_stage: Say, on_progress: Say
) -> Iterator[Walk]:
    """A walk whose connection is closed at its end; Ctrl-C ends it and leaves the board alone.

    Raises:
        UsageError: The host is not the name of one.
        StoppedError: Ctrl-C; the board goes on.
    """
    with Ssh(host, options.ssh_options) as ssh:
        try:
            yield Walk(ssh, options, again, on_stage, on_progress)
        except KeyboardInterrupt:
            raise StoppedError(
                f"stopped listening to '{host}'; what was copied stays, and a {kind.noun} that "
                "runs there goes on.",
                hint=f"{again} goes on from here; with --cancel it ends the {kind.noun}.",
            )
