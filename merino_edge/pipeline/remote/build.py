"""``build --host``: the bundle goes to the board, its engine is built there, the report comes back.

The one idea: the bundle's id names everything. Its folder on the board and the job beside that are
found again by any later call, so ``merino-edge build BUNDLE --host user@board`` goes on whatever
interrupted it. What a walk to a board is, stands in ``walk``.
"""

import os
import shlex
import uuid

from merino_edge.formats.bundle import MANIFEST, Bundle, sha256_of
from merino_edge.pipeline.remote import report as reports
from merino_edge.pipeline.remote.board import Board
from merino_edge.pipeline.remote.copying import files_of
from merino_edge.pipeline.remote.job import Job, Kind
from merino_edge.pipeline.remote.report import RemoteReport
from merino_edge.pipeline.remote.ssh import Ssh
from merino_edge.pipeline.remote.walk import Done, Needed, RemoteOptions, Say, Walk, walk_to

BUILD = Kind("build", "builds the engine", look_every_s=1)


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
        options: How; its words go to the board's ``merino-edge build BUNDLE --json``.
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
    again = _again(bundle, host)
    with walk_to(host, options, BUILD, again, on_stage, on_progress) as walk:
        board = walk.reach(_needs_engine(bundle))
        job = _job(bundle, walk.ssh, board, options)
        needed = Needed(board, files_of(bundle, _folder(bundle, board)), bundle.size_bytes)
        done = walk.carry_out(
            job,
            needed,
            lambda line: on_stage(f"{host}: {line}"),
            lambda: on_progress(f"{host} is building"),
        )
        return _bring_home(bundle, board, walk, job, done)


def cancel_on_board(bundle: Bundle, host: str, options: RemoteOptions | None = None) -> bool:
    """End the build of a bundle on a board; whether there was one.

    Raises:
        UsageError: The host is not the name of one.
        BoardError: The board cannot be reached, or the build does not end.
    """
    options = options or RemoteOptions()
    with walk_to(host, options, BUILD, _again(bundle, host), _unheard, _unheard) as walk:
        board = walk.reach(_needs_engine(bundle))
        return _job(bundle, walk.ssh, board, options).cancel()


def _unheard(text: str) -> None:
    pass


def _bring_home(bundle: Bundle, board: Board, walk: Walk, job: Job, done: Done) -> RemoteReport:
    outcome = done.outcome
    report = RemoteReport(
        host=walk.host,
        bundle_id=bundle.bundle_id,
        folder=_folder(bundle, board),
        device=board.device,
        merino_edge=board.merino_edge,
        copied_bytes=done.copied.sent_bytes,
        skipped_bytes=done.copied.skipped_bytes,
        copy_s=round(done.copied.elapsed_s, 3),
        build_s=outcome.elapsed_s,
        n_breaks=walk.patience.n_breaks,
        attached=done.attached,
        exit_code=outcome.exit_code,
        result=reports.parse_result(outcome.result),
    )
    reports.write_report(bundle.path, report, outcome.log)
    walk.patience.keep_trying(job.mark_collected)
    reports.check(report, outcome.log, reports.report_paths(bundle.path)[1])
    return report


def _needs_engine(bundle: Bundle) -> bool:
    return bundle.manifest.engine is not None


def _again(bundle: Bundle, host: str) -> str:
    """The command that goes on; options that were given besides have to be given again."""
    return shlex.join(("merino-edge", "build", bundle.path, "--host", host))


def _folder(bundle: Bundle, board: Board) -> str:
    return f"{board.folder}/{bundle.bundle_id}"


def _job(bundle: Bundle, ssh: Ssh, board: Board, options: RemoteOptions) -> Job:
    folder = _folder(bundle, board)
    command = (*board.program, "build", folder, *options.words, "--json")
    manifest = sha256_of(os.path.join(bundle.path, MANIFEST))
    return Job(ssh, BUILD, folder + ".job", command, manifest, uuid.uuid4().hex)
