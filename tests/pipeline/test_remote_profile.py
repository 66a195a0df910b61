"""``profile --host`` against a real sshd: what crosses, what breaks, and that no round is lost.

The board is a folder on this machine; its merino-edge is ours, under the Python 3.6 of ``make
test-py36`` where that is, and really times probes with the native decoder. They are few and small,
so what is measured here is worth nothing; that it comes home whole is what counts.
"""

import contextlib
import os
import re
import signal
import threading
from dataclasses import replace

import pytest
from profiling_board import (
    PYTHON,
    PYTHON36,
    RECIPE,
    enough,
    probe_set,
    profiling_board,
)

from merino_edge.cli.main import main
from merino_edge.core.latency_fit import FEWEST_DECODERS
from merino_edge.errors import BoardBuildError, BoardError, MerinoError, SpecError, StoppedError
from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.formats.latency_table import MEASURED, read_table
from merino_edge.pipeline.profile import run_folder
from merino_edge.pipeline.remote import RemoteOptions
from merino_edge.pipeline.remote.probe_place import Place, make_way
from merino_edge.pipeline.remote.profile import Timing, cancel_profile, profile_on_board
from merino_edge.pipeline.remote.ssh import Ssh
from merino_edge.runtime.native_library import library_path
from merino_edge.runtime.profiler import FEWEST_ROUNDS

pytestmark = pytest.mark.skipif(
    not os.path.isfile(library_path()), reason="the native decoder is not built here"
)
LONGER = (32, 56, 80)
# The fewest rounds that there can be.
HASTY = Timing(backend="native", threads=1, max_minutes=0.001)
HASTY_ANEW = replace(HASTY, anew=True)
LONG = Timing(backend="native", threads=1, max_minutes=5.0)


def three(lengths=(32,)):
    """Fewer probes than can be judged, but quickly timed; with more lengths in some seconds."""
    found = [
        Architecture(blocks=(BlockSpec(64, 4, 4, 128, depth),), vocab_size=320, max_seq_len=96)
        for depth in (1, 2, 3)
    ]
    return probe_set({a.arch_id: a for a in found}, {a.arch_id: "fit" for a in found}, lengths)


@pytest.fixture
def board(tmp_path):
    (tmp_path / "board").mkdir()
    with profiling_board(tmp_path / "board") as machine:
        yield machine


@pytest.fixture
def output(tmp_path):
    return str(tmp_path / "table.json")


def profile(board, output, probes=None, on_progress=None, timing=HASTY, **options):
    """``profile_on_board`` with the board's keys; gives the table and the lines that were shown."""
    lines = []
    options.setdefault("ssh_options", board.ssh_options)
    options.setdefault("give_up_after_s", 20.0)
    table = profile_on_board(
        probes or three(),
        RECIPE,
        output,
        board.host,
        timing,
        RemoteOptions(**options),
        lines.append,
        on_progress or (lambda text: None),
    )
    return table, lines


def kept(board, output, **more):
    """``profile`` of probes that are too few to be judged: the table as it came, and the lines."""
    lines = []
    with pytest.raises(SpecError, match=r"timed for 3 decoders, a fit needs"):
        profile_on_board(
            more.pop("probes", None) or three(),
            RECIPE,
            output,
            board.host,
            more.pop("timing", HASTY),
            RemoteOptions(board.ssh_options, give_up_after_s=20.0),
            lines.append,
            lambda text: None,
        )
    return read_table(os.path.join(run_folder(output), "board-table.json")), lines


@contextlib.contextmanager
def after(board, n_lines, action):
    """Acts once while the block runs, as soon as so many lines are in the board's journal."""
    over = threading.Event()

    def watch():
        while not over.wait(0.02):
            if len(board.lines()) >= n_lines:
                action()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


# ---- what crosses


def test_probes_are_timed_on_the_board_and_the_table_is_judged_here(board, output):
    shown = []
    table, lines = profile(board, output, enough(), on_progress=shown.append)
    assert read_table(output) == table
    assert table.provenance == MEASURED
    assert table.setting.backend == "native"
    assert table.setting.threads == 1
    assert table.validation["decode"].n_architectures == 2
    assert {len(row.rounds) for row in table.rows} == {FEWEST_ROUNDS}
    assert any(re.match(r"127.0.0.1: warming up", text) for text in shown)
    assert any(line.startswith("copied ") for line in lines)
    if PYTHON == PYTHON36:
        assert table.device.python.startswith("3.6.")
    assert not os.path.exists(run_folder(output))
    assert board.folders() == []


def test_a_table_of_too_few_decoders_is_kept_and_its_place_is_told(board, output):
    with pytest.raises(SpecError, match=r"timed for 3 decoders, a fit needs") as caught:
        profile(board, output)
    path = os.path.join(run_folder(output), "board-table.json")
    assert f"what was measured is kept: {path}" in caught.value.note
    assert len(read_table(path).rows) == 6
    assert not os.path.exists(output)


def test_probes_that_are_there_are_not_sent_again(board, output):
    kept(board, output)
    _, lines = kept(board, output, timing=Timing("native", 2, 0.001))
    assert any(line.startswith("copied 0 B") for line in lines)
    assert len(board.starts()) == 2


# ---- what breaks, and goes on


def test_a_link_that_breaks_while_the_board_measures_costs_nothing(board, output):
    with after(board, 2, board.break_connections):
        table, lines = kept(board, output, probes=three(LONGER))
    assert any("trying again" in line for line in lines)
    assert len(board.starts()) == 1
    assert len(table.rows) == 18


def test_after_a_power_cut_the_same_call_times_nothing_again(board, output):
    with (
        after(board, 2, board.cut_power),
        pytest.raises(BoardError, match="vanished") as caught,
    ):
        profile(board, output, three(LONGER))
    assert caught.value.exit_code == 7
    assert "the same command" in caught.value.hint
    before = board.lines()
    assert len(before) >= 2
    # --force may have to be given again: an older table is to be replaced
    table, lines = kept(board, output, probes=three(LONGER), timing=HASTY_ANEW)
    assert any(line.startswith("copied 0 B") for line in lines)
    rows = {(row.architecture, row.workload): row for row in table.rows}
    for line in before:
        for label, ms in line["ms"].items():
            row = rows[line["probe"], label]
            assert row.raw_ms[row.rounds.index(line["round"])] == pytest.approx(ms, abs=1e-6)


def test_force_forgets_the_rounds_of_what_ended_but_not_of_what_a_power_cut_ended(board):
    place = Place(str(board.home / "profile-1"), str(board.home / "profile-1/native-1.json"))
    rounds = board.home / "profile-1/native-1.json.run"
    rounds.mkdir(parents=True)
    (board.home / "profile-1/job").mkdir()
    with Ssh(board.host, board.ssh_options) as ssh:
        make_way(ssh, place, anew=True)
        assert rounds.exists()
        (board.home / "profile-1/job/exit").write_text("130 0\n")
        make_way(ssh, place, anew=False)
        assert rounds.exists()
        make_way(ssh, place, anew=True)
        assert not rounds.exists()


@pytest.mark.slow
def test_a_board_that_stays_away_is_given_up_and_found_at_work_later(board, output):
    with (
        after(board, 1, board.stop),
        pytest.raises(BoardError, match="did not come back within 1 s") as caught,
    ):
        profile(board, output, three(LONGER), give_up_after_s=1.0)
    assert caught.value.exit_code == 7
    assert "goes on from here: the same command" in caught.value.hint
    board.start()
    _, lines = kept(board, output, probes=three(LONGER))
    assert any("found the measurement" in line for line in lines)
    assert len(board.starts()) == 1


def test_ctrl_c_leaves_the_board_measuring_and_cancel_ends_it(board, output):
    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    with after(board, 1, interrupt), pytest.raises(StoppedError, match="goes on") as caught:
        profile(board, output, three(LONGER), timing=LONG)
    assert "--cancel" in caught.value.hint
    options = RemoteOptions(board.ssh_options)
    assert cancel_profile(output, board.host, options) is True
    assert cancel_profile(output, board.host, options) is False
    assert board.lines()


@pytest.mark.slow
def test_who_listens_is_told_that_it_was_cancelled(board, output):
    def cancel():
        cancel_profile(output, board.host, RemoteOptions(board.ssh_options))

    with (
        after(board, 1, cancel),
        pytest.raises(StoppedError, match=r"the measurement on '.*' was cancelled"),
    ):
        profile(board, output, three(LONGER), timing=LONG)


# ---- what the board says no to


def test_what_fails_on_the_board_is_told_in_its_words(board, output):
    """ONNX Runtime finds no graph in a bundle for a board's CPU."""
    with pytest.raises(BoardBuildError, match=r"the measurement on '.*' failed: ") as caught:
        profile(board, output, timing=Timing("ort", 1, 0.001))
    log = os.path.join(run_folder(output), "board-log.txt")
    assert log in caught.value.note
    assert os.path.isfile(log)


def test_a_board_without_merino_edge_is_told_before_a_probe_is_built(board, output):
    (board.home / "bin/merino-edge").unlink()
    with pytest.raises(BoardError, match="has no merino-edge") as caught:
        profile(board, output)
    assert caught.value.exit_code == 7
    assert "pip install --user" in caught.value.hint
    assert not os.path.exists(run_folder(output))


def test_a_name_that_nobody_has_is_told(board, output):
    board.host = "no-such-board.invalid"
    with pytest.raises(MerinoError, match="no machine is known by the name") as caught:
        profile(board, output)
    assert caught.value.exit_code == 7
    assert not os.path.exists(run_folder(output))


# ---- the command line


def arguments(board, output, *more):
    options = [word for each in board.ssh_options for word in ("--ssh-option", each)]
    return ["profile", "-o", output, "--host", board.host, *options, *more]


def test_the_command_says_that_nothing_was_begun(board, output, capsys):
    assert main(arguments(board, output, "--cancel")) == 2
    assert "no measurement for" in capsys.readouterr().err


def test_a_predicted_table_needs_no_board(board, output, capsys):
    assert main(arguments(board, output, "--target", "mock-nano")) == 2
    assert "is no board" in capsys.readouterr().err


def test_host_goes_with_no_folder_of_probes(board, output, capsys):
    assert main(arguments(board, output, "probes/")) == 2
    assert "builds its probes itself" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_brings_a_judged_table_home(board, output, capsys):
    space = ["--target", "nano-cpu", "--space", "tiny", "--context", "128"]
    how = ["--backend", "native", "--threads", "1", "--max-minutes", "0.001"]
    size = ["--fit", str(FEWEST_DECODERS), "--held-out", "2"]
    assert main(arguments(board, output, *space, *how, *size)) == 0
    assert "| decode" in capsys.readouterr().out
    assert read_table(output).validation
    assert len(board.starts()) == 1
