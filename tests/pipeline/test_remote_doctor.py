"""``doctor --host``: the board examines itself; through a real ssh to a real sshd."""

import json
import os
import sys

import pytest
from repository import ROOT
from ssh_board import DOCTOR, SshBoard, require_sshd

from merino_edge.cli.main import main


@pytest.fixture
def board(tmp_path):
    require_sshd()
    machine = SshBoard(tmp_path)
    machine.start()
    yield machine
    machine.stop()


def words(board, *more):
    options = [word for each in board.ssh_options for word in ("--ssh-option", each)]
    return ["doctor", "--host", board.host, *options, *more]


def test_the_checks_of_the_board_are_printed_here(board, capsys):
    board.install_scripted()
    assert main(words(board)) == 0
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "warn swap            0 MiB",
        "                     too little",
    ]


def test_a_check_that_fails_there_is_exit_code_1_here(board, capsys):
    failed = {"name": "numpy", "status": "fail", "found": "not installed", "why": "nothing runs."}
    failed["mend"] = "pip install numpy"
    board.install_scripted(doctor={**DOCTOR, "ok": False, "checks": [failed]})
    assert main(words(board, "--json")) == 1
    assert json.loads(capsys.readouterr().out)["checks"] == [failed]


def test_a_board_is_left_as_it_was(board):
    board.install_scripted()
    before = sorted(path.name for path in board.home.rglob("*"))
    assert main(words(board)) == 0
    assert sorted(path.name for path in board.home.rglob("*")) == before


def test_a_board_without_merino_edge_is_told_the_command_that_installs_it(board, capsys):
    assert main(words(board, "--board-program", "no-such-program")) == 7
    said = capsys.readouterr().err
    assert "has no no-such-program" in said
    assert "python3 -m pip install --user 'merino-edge[device]==" in said


def test_an_answer_that_is_none_names_the_command_to_try(board, capsys):
    board.install_scripted(doctor="Illegal instruction")
    assert main(words(board)) == 7
    assert "merino-edge does not work on" in capsys.readouterr().err


def test_ssh_options_without_a_board_are_refused(capsys):
    assert main(["doctor", "--ssh-option", "Port=1"]) == 2
    assert "need --host" in capsys.readouterr().err


def test_the_real_command_examines_its_own_machine_over_ssh(board, capsys):
    """The board's side is ours too: it finds this machine, through ssh."""
    path = board.home / "bin/merino-edge"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m merino_edge "$@"\n')
    path.chmod(0o755)
    code = main(words(board, "--json"))
    about = json.loads(capsys.readouterr().out)
    assert about["ok"] is (code == 0)
    assert about["device"]["machine"] == os.uname().machine
    assert {"python", "numpy", "memory", "disk"} <= {check["name"] for check in about["checks"]}
