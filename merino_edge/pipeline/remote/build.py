"""``build --host``: the bundle goes to the board, the engine is built there, the report comes back.

The one idea: each part can be asked for again at any time. Copying goes on where it was, starting
finds the build that already runs, following begins at the byte that was read last, and a result
that nobody fetched waits. So a broken connection, a Ctrl-C or a closed laptop costs nothing but
the time until ``merino-edge build BUNDLE --host user@board`` is typed.
"""

import os
import shlex
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from merino_edge.errors import StoppedError
from merino_edge.formats.bundle import MANIFEST, Bundle, sha256_of
from merino_edge.pipeline.quantities import human
from merino_edge.pipeline.remote import report as reports
from merino_edge.pipeline.remote.board import Board, ask_board, check_room
from merino_edge.pipeline.remote.copying import Copied, Copying, files_of, missing_bytes
from merino_edge.pipeline.remote.job import Job, Outcome, State
from merino_edge.pipeline.remote.patience import Patience
from merino_edge.pipeline.remote.report import RemoteReport
from merino_edge.pipeline.remote.ssh import Ssh

Say = Callable[[str], None]
REMOTE_DIR = "~/.cache/merino-edge/bundles"
GIVE_UP_AFTER_S = 600.0


@dataclass(frozen=True)
class RemoteOptions:
    """How to reach the board and what to do there.

    Attributes:
        ssh_options: Settings of ssh_config, such as "Port=2222".
        remote_dir: Folder for bundles on the board; "~" is the home there.
        program: How merino-edge starts there; "" looks for it.
        build_options: More words for the board's ``merino-edge build BUNDLE --json``.
        give_up_after_s: Seconds without any progress after which a broken connection is final.
    """

    ssh_options: tuple[str, ...] = ()
    remote_dir: str = REMOTE_DIR
    program: str = ""
    build_options: tuple[str, ...] = ()
    give_up_after_s: float = GIVE_UP_AFTER_S


def build_on_board(
    bundle: Bundle,
    host: str,
    options: RemoteOptions | None = None,
    on_stage: Say = lambda text: None,
    on_progress: Say = lambda text: None,
) -> RemoteReport:
    """Copy a bundle to a board, build and verify it there, and bring the report back.

    The report and the board's log are written beside the bundle, also when the build fails; see
    ``report.report_paths``.

    Args:
        bundle: What to build.
        host: The board, as for ssh.
        options: How.
        on_stage: Gets a line when something is done, and each line of the board's log.
        on_progress: Gets a line about what is going on, many times a second.

    Raises:
        UsageError: The host is not the name of one.
        BoardError: The board cannot be reached, or cannot take the work.
        UnsupportedError: The board's merino-edge reads other bundles.
        MissingDependencyError: The board has no library that builds the engine.
        ChecksumError: A file of the bundle is not what the manifest says.
        BoardBuildError: The build failed; has the exit code that it had on the board.
        StoppedError: Ctrl-C; the board goes on.
    """
    options = options or RemoteOptions()
    with Ssh(host, options.ssh_options) as ssh:
        try:
            return _Build(bundle, ssh, options, on_stage, on_progress).run()
        except KeyboardInterrupt:
            raise StoppedError(
                f"stopped listening to '{host}'; what was copied stays, and a build that runs "
                "there goes on.",
                hint=f"{_again(bundle, host)} goes on from here; with --cancel it ends the build.",
            )


def cancel_on_board(bundle: Bundle, host: str, options: RemoteOptions | None = None) -> bool:
    """End the build of a bundle on a board; whether there was one.

    Raises:
        UsageError: The host is not the name of one.
        BoardError: The board cannot be reached, or the build does not end.
    """
    options = options or RemoteOptions()
    with Ssh(host, options.ssh_options) as ssh:
        ssh.connect()
        board = ask_board(ssh, options.remote_dir, options.program, bundle.manifest)
        return _job(bundle, ssh, board, options).cancel()


class _Build:
    """One call of ``build_on_board``: what its steps share."""

    def __init__(
        self, bundle: Bundle, ssh: Ssh, options: RemoteOptions, on_stage: Say, on_progress: Say
    ):
        self._bundle = bundle
        self._ssh = ssh
        self._options = options
        self._on_stage = on_stage
        self._on_progress = on_progress
        again = _again(bundle, ssh.host)
        self._patience = Patience(ssh, options.give_up_after_s, again, on_stage)

    def run(self) -> RemoteReport:
        self._on_progress(f"connecting to {self._ssh.host}")
        self._ssh.connect()
        board = self._patience.keep_trying(self._ask_board)
        job = _job(self._bundle, self._ssh, board, self._options)
        copied = Copied()
        state = self._patience.keep_trying(job.state)
        attached = state in (State.RUNNING, State.DONE)
        if not attached:
            copied = self._copy(board)
            attached = self._patience.keep_trying(job.start) is State.RUNNING
        self._on_stage(_STAGES[attached].format(host=self._ssh.host))
        outcome = job.follow(self._patience, self._show_line, self._show_tick)
        return self._bring_home(board, job, copied, attached, outcome)

    def _ask_board(self) -> Board:
        o = self._options
        board = ask_board(self._ssh, o.remote_dir, o.program, self._bundle.manifest)
        for warning in board.warnings:
            self._on_stage(f"warning: {self._ssh.host}: {warning}")
        return board

    def _copy(self, board: Board) -> Copied:
        files = files_of(self._bundle, _folder(self._bundle, board))
        missing = self._patience.keep_trying(lambda: missing_bytes(self._ssh, files))
        check_room(self._ssh, board, missing, self._bundle.size_bytes)
        copied = Copying(self._ssh, self._patience, self._on_progress).copy(files)
        self._on_stage(
            f"copied {human(copied.sent_bytes, 'B')} in {copied.elapsed_s:.0f} s, "
            f"{human(copied.skipped_bytes, 'B')} were there"
        )
        return copied

    def _show_line(self, line: str) -> None:
        self._on_stage(f"{self._ssh.host}: {line}")

    def _show_tick(self) -> None:
        self._on_progress(f"{self._ssh.host} is building")

    def _bring_home(
        self, board: Board, job: Job, copied: Copied, attached: bool, outcome: Outcome
    ) -> RemoteReport:
        report = RemoteReport(
            host=self._ssh.host,
            bundle_id=self._bundle.bundle_id,
            folder=_folder(self._bundle, board),
            device=board.device,
            merino_edge=board.merino_edge,
            copied_bytes=copied.sent_bytes,
            skipped_bytes=copied.skipped_bytes,
            copy_s=round(copied.elapsed_s, 3),
            build_s=outcome.elapsed_s,
            n_breaks=self._patience.n_breaks,
            attached=attached,
            exit_code=outcome.exit_code,
            result=reports.parse_result(outcome.result),
        )
        reports.write_report(self._bundle.path, report, outcome.log)
        self._patience.keep_trying(job.mark_collected)
        reports.check(report, outcome.log, reports.report_paths(self._bundle.path)[1])
        return report


_STAGES = {True: "found the build that {host} has already", False: "{host} builds the engine"}


def _again(bundle: Bundle, host: str) -> str:
    """The command that goes on; options that were given besides have to be given again."""
    return shlex.join(("merino-edge", "build", bundle.path, "--host", host))


def _folder(bundle: Bundle, board: Board) -> str:
    return f"{board.folder}/{bundle.bundle_id}"


def _job(bundle: Bundle, ssh: Ssh, board: Board, options: RemoteOptions) -> Job:
    folder = _folder(bundle, board)
    command = (*board.program, "build", folder, *options.build_options, "--json")
    manifest = sha256_of(os.path.join(bundle.path, MANIFEST))
    return Job(ssh, folder + ".job", command, manifest, uuid.uuid4().hex)
