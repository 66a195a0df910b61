"""power_mode.sh on a folder that stands for a board: what it sets, it puts back."""

import pytest
from board_root import Board
from repository import ROOT

SCRIPT = ROOT / "jetson/power_mode.sh"


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path, python=None)


def power(board, *words, **options):
    return board.run(SCRIPT, *words, **options)


def state(board):
    snapshot = board.snapshot()
    return snapshot["mode"].strip(), snapshot["clocks"].strip()


def test_mode_and_clocks_are_set_and_put_back(board):
    before = board.snapshot()
    result = power(board, "set", "maxn", "--clocks")
    assert result.returncode == 0, result.stderr
    assert state(board) == ("0", "highest")
    assert "restore goes back to: mode 1" in result.stdout
    assert power(board, "is", "maxn", "--clocks").returncode == 0
    assert power(board, "is", "5w").returncode == 1

    assert power(board, "restore").returncode == 0
    assert board.snapshot() == before
    assert power(board, "restore").returncode == 0


def test_what_was_there_before_the_first_set_is_what_restore_means(board):
    (board.folder / "mode").write_text("2\n")
    for words in (["maxn"], ["5w", "--clocks"], ["maxn", "--clocks"]):
        assert power(board, "set", *words).returncode == 0
    assert state(board) == ("0", "highest")
    power(board, "restore")
    assert state(board) == ("2", "free")


def test_another_mode_unpins_the_clocks_first_and_a_set_that_holds_changes_nothing(board):
    power(board, "set", "5w", "--clocks")
    assert board.calls() == [
        f"jetson_clocks --store {board.root}/var/lib/merino-edge-power/clocks",
        "jetson_clocks ",
    ]
    power(board, "set", "maxn")
    assert state(board) == ("0", "free")
    calls = board.calls()
    power(board, "set", "maxn")
    assert board.calls() == calls


def test_a_pin_does_not_outlive_a_restart_and_what_was_stored_then_is_not_used(board):
    power(board, "set", "--clocks")
    (board.root / "proc/sys/kernel/random/boot_id").write_text("two\n")
    (board.folder / "clocks").write_text("free, second start\n")
    assert power(board, "is", "--clocks").returncode == 1
    power(board, "set", "--clocks")
    power(board, "restore")
    assert state(board)[1] == "free, second start"


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_set_that_failed_can_be_finished_or_put_back(board, n):
    before = board.snapshot()
    assert power(board, "set", "maxn", "--clocks", fail_at=n).returncode == 1
    power(board, "restore")
    assert board.snapshot() == before

    power(board, "set", "maxn", "--clocks", fail_at=n)
    assert power(board, "set", "maxn", "--clocks").returncode == 0
    assert state(board) == ("0", "highest")
    power(board, "restore")
    assert board.snapshot() == before


@pytest.mark.parametrize("words", [[], ["fast"], ["set", "fast"], ["set", "10"], ["set", "-1"]])
def test_asked_wrongly_it_says_how_and_does_nothing(board, words):
    result = power(board, *words)
    assert result.returncode == 2
    assert "power_mode.sh set [MODE] [--clocks]" in result.stderr
    assert board.calls() == []


def test_where_there_is_no_nvpmodel_it_says_so(board):
    (board.folder / "bin/nvpmodel").unlink()
    result = power(board, "status")
    assert result.returncode == 1
    assert "there is no nvpmodel here: is this a Jetson?" in result.stderr
