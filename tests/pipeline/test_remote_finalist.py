"""``search --confirm --host`` against a real sshd: finalists are timed where the table was.

The board is a folder on this machine and times with the native decoder, in few rounds: that its
figures come home and are used is what counts here.
"""

import os
from dataclasses import replace

import pytest
from profiling_board import RECIPE, SPACE_CONTEXT, enough, profiling_board

from merino_edge.cli.main import main
from merino_edge.errors import UsageError
from merino_edge.formats.latency_table import DECODE, PREDICTED, write_table
from merino_edge.pipeline.closest_row import last_token
from merino_edge.pipeline.remote import RemoteOptions
from merino_edge.pipeline.remote.finalist import BoardBench
from merino_edge.pipeline.remote.profile import Timing, profile_on_board
from merino_edge.runtime.native_library import library_path
from merino_edge.runtime.profiler import FEWEST_ROUNDS

pytestmark = pytest.mark.skipif(
    not os.path.isfile(library_path()), reason="the native decoder is not built here"
)
LENGTH = 32  # where the probes were timed


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    with profiling_board(tmp_path_factory.mktemp("board")) as machine:
        yield machine


@pytest.fixture(scope="module")
def measured(board, tmp_path_factory):
    """A table of the board; of few rounds, so that it is quickly there."""
    path = str(tmp_path_factory.mktemp("table") / "table.json")
    timing = Timing("native", 1, 0.001)
    options = RemoteOptions(board.ssh_options)
    return profile_on_board(enough(), RECIPE, path, board.host, timing, options)


def bench(board, table, tmp_path):
    return BoardBench(
        table,
        LENGTH,
        board.host,
        str(tmp_path / "finalists"),
        RemoteOptions(board.ssh_options),
        max_minutes=0.001,
    )


def test_a_finalist_takes_on_the_board_about_what_its_row_says(board, measured, tmp_path):
    """A decoder of the table itself, timed again: within a factor that only a fault exceeds."""
    name = next(name for name in measured.architectures if name != measured.anchor)
    label = last_token(measured, LENGTH).label
    (row,) = [r for r in measured.rows if (r.architecture, r.workload) == (name, label)]
    timed = bench(board, measured, tmp_path)(measured.architectures[name])
    assert 0.3 < timed.ms / row.latency_ms.p50 < 3.0
    assert timed.n >= FEWEST_ROUNDS
    assert board.folders() == []


def test_a_finalist_that_was_timed_is_not_timed_again(board, measured, tmp_path):
    a = measured.architectures[measured.anchor]
    first = bench(board, measured, tmp_path)(a)
    n_starts = len(board.starts())
    assert bench(board, measured, tmp_path)(a) == first
    assert len(board.starts()) == n_starts


def test_what_was_kept_for_another_context_is_not_taken(board, measured, tmp_path):
    a = measured.architectures[measured.anchor]
    bench(board, measured, tmp_path)(a)
    n_starts = len(board.starts())
    longer = replace(bench(board, measured, tmp_path), context_len=LENGTH + 16)
    assert longer(a).n >= FEWEST_ROUNDS
    assert len(board.starts()) == n_starts + 1


def test_a_table_of_another_machine_is_refused_with_what_differs(board, measured, tmp_path):
    other = measured.replace(device=measured.device._replace(model="a board that nobody has"))
    with pytest.raises(UsageError, match="device: a board that nobody has and ") as caught:
        bench(board, other, tmp_path)(other.architectures[other.anchor])
    assert "profile --host" in caught.value.hint
    assert os.listdir(tmp_path / "finalists") == []


def test_a_predicted_table_has_no_board(board, measured, tmp_path):
    with pytest.raises(UsageError, match="the table is predicted"):
        bench(board, measured.replace(provenance=PREDICTED), tmp_path)


@pytest.mark.slow
def test_the_search_confirms_on_the_board(board, measured, tmp_path, capsys):
    table, output = tmp_path / "table.json", tmp_path / "arch.json"
    write_table(str(table), measured)
    slowest_ms = max(r.latency_ms.p50 for r in measured.rows if r.workload.startswith(DECODE))
    n_starts = len(board.starts())
    words = ["search", "--latency-table", str(table), "--space", "tiny", "-o", str(output)]
    words += ["--context", str(SPACE_CONTEXT), "--max-latency-ms", str(2.0 * slowest_ms)]
    words += ["--confirm", "1", "--no-proof", "--candidates", "2000", "--population", "64"]
    ssh = [word for each in board.ssh_options for word in ("--ssh-option", each)]
    code = main([*words, "--host", board.host, *ssh])
    shown = capsys.readouterr()
    # The limit is loose, but a machine under test is busy: it may also be told that it failed.
    assert code in (0, 6), shown.err
    assert "measured" in shown.err
    assert output.exists() == (code == 0)
    assert len(board.starts()) == n_starts + 1


def test_host_without_confirm_is_refused(capsys):
    assert main(["search", "--target", "nano", "--host", "user@board"]) == 2
    assert "needs --confirm" in capsys.readouterr().err
