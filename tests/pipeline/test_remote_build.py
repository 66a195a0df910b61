"""``build --host`` against a real sshd: what crosses, what breaks, and what goes on.

The board is a folder on this machine and its merino-edge a stand-in (see ssh_board); ssh, sshd, the
shell, dd, flock and the files are real.
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

import pytest
from doubles import edit_manifest, tiny_bundle
from ssh_board import DOCTOR, SshBoard, make_key, require_sshd

from merino_edge.errors import (
    BoardBuildError,
    BoardError,
    ChecksumError,
    MerinoError,
    MissingDependencyError,
    StoppedError,
    UnsupportedError,
)
from merino_edge.formats.bundle import MANIFEST, Bundle, file_entries
from merino_edge.formats.engine_spec import EngineSpec
from merino_edge.pipeline.remote import (
    RemoteOptions,
    build_on_board,
    cancel_on_board,
    report_paths,
)

LARGE_BYTES = 24 << 20
# What may be on its way when a connection breaks: pipes, sockets and ssh's window of 2 MiB.
IN_FLIGHT_BYTES = 8 << 20


@pytest.fixture
def board(tmp_path):
    """A board with the stand-in for merino-edge, switched on."""
    require_sshd()
    folder = tmp_path / "board"
    folder.mkdir()
    machine = SshBoard(folder)
    machine.install_scripted()
    machine.start()
    yield machine
    machine.stop()


@pytest.fixture
def bundle(tmp_path):
    """A small bundle."""
    return Bundle.open(tiny_bundle(tmp_path / "small", tokenizer=False))


@pytest.fixture
def large(tmp_path):
    """A bundle with one file that takes a moment to copy."""
    path = pathlib.Path(tiny_bundle(tmp_path / "large", tokenizer=False))
    (path / "large.bin").write_bytes(os.urandom(LARGE_BYTES))
    roles = {"large.bin": "other", "model.safetensors": "weights"}
    edit_manifest(path, files=file_entries(str(path), roles))
    return Bundle.open(str(path))


def build(bundle, board, on_stage=None, on_progress=None, **options):
    """``build_on_board`` with the board's keys; gives the report and the lines that were shown."""
    lines = []

    def show(line):
        lines.append(line)
        if on_stage:
            on_stage(line)

    options.setdefault("ssh_options", board.ssh_options)
    options.setdefault("give_up_after_s", 20.0)
    settings = RemoteOptions(**options)
    report = build_on_board(bundle, board.host, settings, show, on_progress or (lambda text: None))
    return report, lines


def once(trigger, action):
    """A callback that acts at the first line which has the trigger in it."""
    done = []

    def look(line):
        if not done and re.search(trigger, line):
            done.append(line)
            action()

    return look


def said_by_board(board, lines):
    prefix = f"{board.host}: "
    return [line[len(prefix) :] for line in lines if line.startswith(prefix)]


# ---- what crosses


def test_a_bundle_is_copied_built_and_reported(board, bundle):
    report, lines = build(bundle, board)
    assert report.copied_bytes == bundle.size_bytes + os.path.getsize(f"{bundle.path}/{MANIFEST}")
    assert report.result == {"engine": "decoder-8.2.plan", "verified": True, "golden_tokens": 64}
    assert said_by_board(board, lines) == ["step 0", "step 1"]
    there = Bundle.open(str(board.bundle_folder(bundle)))
    assert there.verify_checksums() == bundle.verify_checksums()
    assert there.manifest == bundle.manifest
    assert not list(board.home.rglob("*.part"))
    card = "\n".join(report.card())
    assert "Scripted Board" in card
    assert "decoder-8.2.plan" in card


def test_report_and_log_lie_beside_the_bundle(board, bundle):
    report, _ = build(bundle, board)
    report_path, log_path = report_paths(bundle.path)
    document = json.loads(pathlib.Path(report_path).read_text())
    assert document["schema"] == "merino-edge.board-report/1"
    assert document["result"] == report.result
    assert document["device"]["jetpack"] == "4.6.1"
    assert pathlib.Path(log_path).read_text() == "step 0\nstep 1\n"
    assert sorted(os.listdir(bundle.path)) == sorted([*bundle.manifest.files, MANIFEST])


def test_what_is_there_is_not_copied_again_but_built_again(board, bundle):
    first, _ = build(bundle, board)
    second, _ = build(bundle, board)
    assert second.copied_bytes == 0
    assert second.skipped_bytes == first.copied_bytes
    assert not second.attached
    assert len(board.builds()) == 2


@pytest.mark.slow
def test_a_file_that_rotted_on_the_board_is_replaced(board, bundle):
    build(bundle, board)
    rotten = board.bundle_folder(bundle) / "model.safetensors"
    data = bytearray(rotten.read_bytes())
    data[1000] ^= 1
    rotten.write_bytes(data)
    report, _ = build(bundle, board)  # the stand-in checks the sums itself
    assert report.copied_bytes == len(data)


@pytest.mark.slow
def test_another_manifest_replaces_the_one_of_the_same_files(board, bundle):
    build(bundle, board)
    edit_manifest(bundle.path, name="a longer name than before")
    again = Bundle.open(bundle.path)
    assert again.bundle_id == bundle.bundle_id
    build(again, board)
    assert Bundle.open(str(board.bundle_folder(again))).manifest.name == "a longer name than before"


def test_names_are_never_read_as_shell(board, tmp_path):
    path = pathlib.Path(tiny_bundle(tmp_path / "odd", tokenizer=False))
    names = ["it's; touch HACKED #.bin", '$(touch HACKED)/`touch HACKED` "x".bin', "-n.bin"]
    for name in names:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(name.encode())
    edit_manifest(path, files=file_entries(str(path), dict.fromkeys(names, "other")))
    odd = Bundle.open(str(path))
    report, _ = build(odd, board, remote_dir="~/a $(touch HACKED) 'b'")
    assert Bundle.open(report.folder).verify_checksums() == odd.verify_checksums()
    assert report.folder.startswith(str(board.home / "a $(touch HACKED) 'b'"))
    assert not list(board.home.rglob("HACKED"))


def test_a_login_that_talks_disturbs_nothing(board, bundle):
    (board.home / "profile").write_text("echo Welcome to the board; echo and a warning >&2\n")
    report, lines = build(bundle, board)
    assert report.result["verified"] is True
    assert said_by_board(board, lines) == ["step 0", "step 1"]


@pytest.mark.slow
def test_an_alias_of_the_users_ssh_config_is_enough(board, bundle, tmp_path, monkeypatch):
    settings = "\n".join("  " + each.replace("=", " ", 1) for each in board.ssh_options)
    (tmp_path / "config").write_text(f"Host nano\n  HostName {board.host}\n{settings}\n")
    which = subprocess.run(["which", "ssh"], capture_output=True, text=True, check=True)
    wrapper = tmp_path / "wrapped" / "ssh"  # ssh finds its config by the account, not by $HOME
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {which.stdout.strip()} -F {tmp_path}/config "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    board.host = "nano"
    report, _ = build(bundle, board, ssh_options=())
    assert report.host == "nano"
    assert report.result["verified"] is True


@pytest.mark.slow
def test_without_a_place_for_a_shared_connection_it_works_too(board, bundle, tmp_path, monkeypatch):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    report, _ = build(bundle, board)
    assert report.result["verified"] is True
    assert os.listdir(long) == []


# ---- what breaks, and goes on


def test_a_connection_that_breaks_while_copying_goes_on_where_it_was(board, large):
    cut = once(r"large.bin: 1[89]", board.break_connections)
    report, lines = build(large, board, on_progress=cut)
    assert report.n_breaks == 1
    assert any("trying again" in line for line in lines)
    assert report.copied_bytes < LARGE_BYTES + IN_FLIGHT_BYTES  # from its start: + 18 MB
    assert len(board.builds()) == 1


@pytest.mark.slow
def test_a_copy_that_was_abandoned_is_continued_by_the_next_call(board, large):
    def stop(_):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(StoppedError) as caught:
        build(
            large, board, on_progress=lambda text: re.search("large.bin: 1[89]", text) and stop(0)
        )
    assert caught.value.exit_code == 130
    assert board.builds() == []
    report, _ = build(large, board)
    assert report.n_breaks == 0
    assert report.copied_bytes < LARGE_BYTES - IN_FLIGHT_BYTES


@pytest.mark.slow
def test_a_frozen_connection_is_replaced_and_its_late_bytes_do_no_harm(board, large):
    """The old receiver lives on, and writes what it still holds while the new one writes, too."""
    freeze = once(r"large.bin: 1[0-9]", lambda: board.signal_connections(signal.SIGSTOP))
    old = []

    def thaw():
        for process in old:
            os.kill(process, signal.SIGCONT)

    def look(line):
        if "trying again" in line and not old:
            old.extend(board.connections())
            threading.Timer(1.4, thaw).start()

    report, _ = build(large, board, on_progress=freeze, on_stage=look)
    assert old
    assert report.n_breaks == 1
    assert report.result["verified"] is True


def test_a_connection_that_breaks_while_building_loses_no_line(board, bundle):
    board.behave(steps=12, step_s=0.15)
    report, lines = build(bundle, board, on_stage=once("step 3", board.break_connections))
    assert report.n_breaks == 1
    assert said_by_board(board, lines) == [f"step {i}" for i in range(12)]
    assert len(board.builds()) == 1


@pytest.mark.slow
def test_an_sshd_that_restarts_is_waited_for(board, bundle):
    board.behave(steps=20, step_s=0.15)

    def restart():
        board.stop()
        threading.Timer(1.5, board.start).start()

    report, lines = build(bundle, board, on_stage=once("step 3", restart))
    assert any("refuses the connection" in line for line in lines)
    assert said_by_board(board, lines) == [f"step {i}" for i in range(20)]
    assert len(board.builds()) == 1
    assert report.result["verified"] is True


@pytest.mark.slow
def test_a_board_that_stays_away_is_given_up_and_its_result_fetched_later(board, bundle):
    board.behave(steps=10, step_s=0.1)
    with pytest.raises(BoardError, match="did not come back within 1 s") as caught:
        build(bundle, board, on_stage=once("step 1", board.stop), give_up_after_s=1.0)
    assert caught.value.exit_code == 7
    assert "Connection refused" in caught.value.note
    board.start()
    report, lines = build(bundle, board)
    assert report.attached
    assert report.copied_bytes == 0
    assert said_by_board(board, lines) == [f"step {i}" for i in range(10)]
    assert len(board.builds()) == 1
    third, _ = build(bundle, board)  # a result is handed out once
    assert not third.attached
    assert len(board.builds()) == 2


def test_ctrl_c_leaves_the_build_alone_and_the_same_command_finds_it(board, bundle):
    board.behave(steps=16, step_s=0.1)
    interrupt = once("step 2", lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(StoppedError, match="goes on") as caught:
        build(bundle, board, on_stage=interrupt)
    assert caught.value.exit_code == 130
    assert f"merino-edge build {bundle.path} --host {board.host}" in caught.value.hint
    assert "--cancel" in caught.value.hint
    report, lines = build(bundle, board)
    assert report.attached
    assert any("has already" in line for line in lines)
    assert said_by_board(board, lines) == [f"step {i}" for i in range(16)]
    assert len(board.builds()) == 1


def test_a_build_can_be_cancelled_and_who_listens_is_told(board, bundle):
    board.behave(steps=1000, step_s=0.1)
    options = RemoteOptions(ssh_options=board.ssh_options)
    cancelled = []

    def cancel():
        cancelled.append(cancel_on_board(bundle, board.host, options))

    canceller = threading.Thread(target=cancel)
    with pytest.raises(StoppedError, match="cancelled"):
        build(bundle, board, on_stage=once("step 1", canceller.start))
    canceller.join()
    assert cancelled == [True]
    assert cancel_on_board(bundle, board.host, options) is False


@pytest.mark.slow
def test_another_build_of_the_same_files_is_not_disturbed(board, bundle):
    board.behave(steps=50, step_s=0.1)
    refused = []

    def build_otherwise():
        with pytest.raises(BoardError, match="with other options") as caught:
            build(bundle, board, words=("--force",))
        refused.append(caught.value)

    report, _ = build(bundle, board, on_stage=once("step 1", build_otherwise))
    assert report.result["verified"] is True
    assert len(refused) == 1
    assert len(board.builds()) == 1


@pytest.mark.slow
def test_a_build_that_vanished_without_a_code_is_said_and_can_be_repeated(board, bundle):
    board.behave(steps=1000, step_s=0.1)

    def lose_power():
        job = board.bundle_folder(bundle).with_suffix(".job")
        os.killpg(int((job / "pid").read_text()), signal.SIGKILL)

    with pytest.raises(BoardError, match="vanished") as caught:
        build(bundle, board, on_stage=once("step 1", lose_power))
    assert "Its last words: step" in caught.value.note
    board.behave()
    report, _ = build(bundle, board)
    assert not report.attached
    assert report.result["verified"] is True


# ---- what the board says no to


SLOW = pytest.mark.slow


@pytest.mark.parametrize("code", [3, *(pytest.param(code, marks=SLOW) for code in (4, 5, 8))])
def test_the_boards_exit_code_and_words_come_through(board, bundle, code):
    words = "error: the plan is for TensorRT 8.0.\nnote: here is 8.2.\nhint: build again\n"
    board.behave(exit_code=code, last_words=words)
    with pytest.raises(BoardBuildError) as caught:
        build(bundle, board)
    assert caught.value.exit_code == code
    assert "failed: the plan is for TensorRT 8.0." in caught.value.message
    assert caught.value.hint == "on the board: build again"
    report_path, log_path = report_paths(bundle.path)
    assert json.loads(pathlib.Path(report_path).read_text())["exit_code"] == code
    assert pathlib.Path(log_path).read_text().endswith(words)


@pytest.mark.slow
def test_a_failure_does_not_stand_in_the_way_of_the_next_try(board, bundle):
    board.behave(exit_code=5)
    with pytest.raises(BoardBuildError):
        build(bundle, board)
    board.behave()
    report, _ = build(bundle, board)
    assert report.exit_code == 0
    assert len(board.builds()) == 2


@pytest.mark.slow
def test_a_build_that_the_kernel_killed_is_told_as_memory(board, bundle):
    board.behave(exit_code=-9)
    with pytest.raises(BoardBuildError, match="for want of memory") as caught:
        build(bundle, board)
    assert caught.value.exit_code == 4


def test_a_board_without_merino_edge_is_told_how_to_get_it(board, bundle):
    (board.home / "bin/merino-edge").unlink()
    with pytest.raises(BoardError, match="has no merino-edge") as caught:
        build(bundle, board)
    assert caught.value.exit_code == 7
    assert "pip install --user" in caught.value.hint


@pytest.mark.slow
def test_programs_of_pip_user_are_found_though_ssh_has_no_path_to_them(board, bundle):
    (board.home / "bin/merino-edge").unlink()
    board.install_scripted(".local/bin/merino-edge")
    assert build(bundle, board)[0].result["verified"] is True


@pytest.mark.slow
def test_the_program_can_be_named(board, bundle):
    (board.home / "bin/merino-edge").unlink()
    board.install_scripted("an env/bin/merino-edge")
    report, _ = build(bundle, board, program="'~/an env/bin/merino-edge'")
    assert report.result["verified"] is True
    with pytest.raises(BoardError, match="has no ~/elsewhere/merino-edge"):
        build(bundle, board, program="~/elsewhere/merino-edge")


@pytest.mark.slow
def test_a_merino_edge_that_does_not_work_there_is_told_in_its_words(board, bundle):
    (board.home / "bin/merino-edge").write_text("#!/bin/sh\necho error: no numpy >&2; exit 1\n")
    with pytest.raises(BoardError, match="does not work") as caught:
        build(bundle, board)
    assert caught.value.note == "error: no numpy"


@pytest.mark.slow
def test_another_version_with_the_same_bundles_is_only_a_warning(board, bundle):
    board.behave(doctor={**DOCTOR, "merino_edge": "0.0.9"})
    report, lines = build(bundle, board)
    assert report.merino_edge == "0.0.9"
    assert any("merino-edge there is 0.0.9" in line for line in lines)


@pytest.mark.parametrize("schema", ["merino-edge.bundle/0", None])
def test_a_version_with_other_bundles_is_refused_before_anything_is_copied(board, bundle, schema):
    board.behave(doctor={**DOCTOR, "bundle_schema": schema})
    with pytest.raises(UnsupportedError, match="reads bundles of schema") as caught:
        build(bundle, board)
    assert caught.value.exit_code == 3
    assert not board.bundle_folder(bundle).exists()


def test_a_bundle_that_needs_an_engine_asks_for_its_library_first(board, bundle):
    edit_manifest(bundle.path, engine=EngineSpec(chunk_len=8, max_logits=1))
    board.behave(doctor={**DOCTOR, "engines": []})
    with pytest.raises(MissingDependencyError, match="tensorrt") as caught:
        build(Bundle.open(bundle.path), board)
    assert "JetPack" in caught.value.hint
    assert not board.bundle_folder(bundle).exists()


@pytest.mark.slow
def test_a_file_that_changed_here_is_noticed_there(board, bundle):
    path = pathlib.Path(bundle.path) / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ChecksumError, match="the manifest says"):
        build(bundle, board)
    assert board.builds() == []


# ---- disks


@pytest.fixture
def small_disk(board):
    """A file system of 64 MB on the board."""
    path = board.home / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "none", path], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a small disk")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.slow
def test_too_small_a_disk_is_refused_with_its_numbers(board, large, small_disk):
    (small_disk / "filler").write_bytes(bytes(40 << 20))
    with pytest.raises(BoardError, match=r"has 25\.\d+ MB free .* need 50\.\d+ MB") as caught:
        build(large, board, remote_dir=str(small_disk))
    assert "--remote-dir" in caught.value.hint


@pytest.mark.slow
def test_a_disk_that_fills_up_while_copying_is_told_and_the_copy_kept(board, large, small_disk):
    def fill():
        with (
            contextlib.suppress(OSError),
            open(small_disk / "filler", "wb", buffering=0) as file,
        ):
            while True:
                file.write(bytes(1 << 20))

    filler = once("large.bin: 1[0-9]", fill)
    with pytest.raises(BoardError, match="disk is full") as caught:
        build(large, board, remote_dir=str(small_disk), on_progress=filler)
    assert "No space left" in caught.value.note
    (small_disk / "filler").unlink()
    report, _ = build(large, board, remote_dir=str(small_disk))
    assert report.result["verified"] is True
    assert report.copied_bytes < LARGE_BYTES


@pytest.mark.slow
def test_a_limit_on_file_sizes_is_told_and_what_fits_is_kept(board, large):
    (board.home / "profile").write_text("ulimit -f 16384\n")  # of 512 bytes: 8 MiB
    with pytest.raises(BoardError, match=r"cannot write|disk is full"):
        build(large, board)
    (board.home / "profile").unlink()
    report, _ = build(large, board)
    assert report.copied_bytes < LARGE_BYTES - (7 << 20)


# ---- who may come in


def refused(board, bundle, words, **options):
    with pytest.raises(MerinoError, match=words) as caught:
        build(bundle, board, **options)
    assert caught.value.exit_code == 7
    assert caught.value.hint
    return caught.value


def test_another_host_key_is_refused(board, bundle, tmp_path):
    make_key(tmp_path / "other")
    board.know_host_key(tmp_path / "other.pub")
    error = refused(board, bundle, "not the one that this machine knows")
    assert "ssh-keygen -R" in error.hint


def test_a_board_that_was_never_met_is_refused(board, bundle):
    board.know_host_key(None)
    assert "Host key verification failed" in refused(board, bundle, "never met").note


def test_a_key_that_the_board_does_not_know_is_refused_without_a_question(board, bundle):
    board.accept_keys("")
    began = time.monotonic()
    assert "ssh-copy-id" in refused(board, bundle, "does not accept a key").hint
    assert time.monotonic() - began < 5


def test_a_port_where_nobody_listens_is_told_at_once(board, bundle):
    board.stop()
    assert "Connection refused" in refused(board, bundle, "refuses the connection").note


def test_a_name_that_nobody_has_is_told(board, bundle):
    board.host = "no-such-board.invalid"
    refused(board, bundle, "no machine is known by the name 'no-such-board.invalid'")


def test_a_machine_without_ssh_is_told_what_to_install(board, bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "openssh-client" in refused(board, bundle, "there is no 'ssh'").hint
