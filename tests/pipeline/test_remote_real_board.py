"""``build`` and ``profile`` over ``--host`` in full: only hardware and NVIDIA's code are doubles.

The board runs our real command under a real Python 3.6 with the strict doubles of TensorRT 8.2.1
and of libcudart for CUDA 10.2; the workstation's side is the real command line, and OpenSSH is
between them.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys

import cuda_double
import pytest
from repository import ROOT
from ssh_board import SshBoard, require_sshd

from merino_edge.cli.main import main
from merino_edge.errors import SpecError
from merino_edge.export.recipe import RECIPES
from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.latency_table import read_table
from merino_edge.formats.probes import ProbeSet
from merino_edge.pipeline.profile import run_folder
from merino_edge.pipeline.remote import RemoteOptions, report_paths
from merino_edge.pipeline.remote.profile import Timing, profile_on_board

pytestmark = [pytest.mark.slow, pytest.mark.py36, pytest.mark.onnx]
GOLDEN = ROOT / "tests/golden/tiny-nano-bundle"
PYTHON = ROOT / ".venv36/bin/python"  # made by `make test-py36`
LAUNCHER = """#!/bin/sh
export PYTHONPATH={root}/tests/tensorrt_double/site:{root} TENSORRT_DOUBLE_VERSION={version}
export TENSORRT_DOUBLE_CAPABILITY=5.3 TENSORRT_DOUBLE_CUDART={cudart} MERINO_EDGE_CUDART={cudart}
{more}
exec {python} -m merino_edge "$@"
"""


class RealBoard(SshBoard):
    """A board whose merino-edge is ours, under Python 3.6 and over the doubles."""

    def __init__(self, folder, cudart):
        super().__init__(folder)
        self._cudart = cudart
        self.install()

    def install(self, version="8.2.1", more=""):
        """Give the board another TensorRT, or more environment."""
        words = dict(root=ROOT, python=PYTHON, cudart=self._cudart, version=version, more=more)
        path = self.home / "bin/merino-edge"
        path.write_text(LAUNCHER.format(**words))
        path.chmod(0o755)

    def plans(self):
        """The engines in the board's cache."""
        return sorted((self.home / ".cache/merino-edge/engines").glob("*.plan"))


def require_python36():
    """Skip without the environment that ``make test-py36`` makes."""
    code = "import numpy, onnx, onnxruntime, tokenizers"
    if not PYTHON.exists() or subprocess.run([PYTHON, "-c", code], capture_output=True).returncode:
        pytest.skip("no .venv36 with all its packages here: make test-py36")
    if shutil.which("cc") is None:
        pytest.skip("the double of libcudart needs a C compiler, cc")


@pytest.fixture
def board(tmp_path):
    require_sshd()
    require_python36()
    folder = tmp_path / "board"
    folder.mkdir()
    machine = RealBoard(folder, cuda_double.build(tmp_path))
    machine.start()
    yield machine
    machine.stop()


@pytest.fixture
def bundle(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "nano")
    return str(tmp_path / "nano")


def arguments(bundle, board, *more):
    options = [word for each in board.ssh_options for word in ("--ssh-option", each)]
    return ["build", bundle, "--host", board.host, *options, *more]


def test_an_engine_is_built_and_verified_on_the_board_and_reported_here(board, bundle, capsys):
    assert main(arguments(bundle, board, "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    record = report["result"]["record"]
    assert record["key"]["tensorrt"] == "8.2.1.8"
    assert record["key"]["cuda"] == "10.2"
    assert record["key"]["compute_capability"] == "5.3"
    assert report["device"]["python"].startswith("3.6.")
    assert re.match(r"(\d+) of \1 golden texts, logits within", report["result"]["verified"])
    assert [str(path) for path in board.plans()] == [report["result"]["engine"]]
    log = pathlib.Path(report_paths(bundle)[1]).read_text()
    assert "parsing decoder.onnx" in log
    Bundle.open(bundle).verify_checksums()


def test_a_second_build_copies_nothing_and_finds_the_engine(board, bundle, capsys):
    assert main(arguments(bundle, board)) == 0
    assert main(arguments(bundle, board)) == 0
    assert "(built before)" in capsys.readouterr().out
    report = json.loads(pathlib.Path(report_paths(bundle)[0]).read_text())
    assert report["copied_bytes"] == 0
    assert len(board.plans()) == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"parse": {"message": "no importer for this operator"}}, 3),
        ({"build": {"message": "Error Code 10: could not find any implementation"}}, 3),
        ({"build": {}}, 4),  # out of memory, in TensorRT's words
        ({"build_is_killed": True}, 4),
        ({"spoils_outputs": True}, 5),
    ],
)
def test_what_fails_on_the_board_fails_here_with_the_same_code(board, bundle, capsys, fault, code):
    board.install(more=f"export TENSORRT_DOUBLE_FAULTS={shlex.quote(json.dumps(fault))}")
    found = main(arguments(bundle, board))
    said = capsys.readouterr().err
    assert found == code, said
    assert "error: the build on '127.0.0.1' failed: " in said
    assert "Traceback" not in said
    assert board.plans() == []
    assert json.loads(pathlib.Path(report_paths(bundle)[0]).read_text())["exit_code"] == code


def test_a_board_without_tensorrt_is_told_before_anything_is_copied(board, bundle, capsys):
    board.install(more=f"export PYTHONPATH={ROOT}")
    assert main(arguments(bundle, board)) == 1
    assert "JetPack" in capsys.readouterr().err
    assert not list(board.home.rglob("manifest.json"))


def test_ctrl_c_at_the_real_command_line_leaves_the_board_building(board, bundle, capsys):
    """A terminal sends SIGINT to the whole group: to our ssh processes, too."""
    board.install(more="sleep 3")  # doctor and build take their time
    command = [sys.executable, "-m", "merino_edge", *arguments(bundle, board)]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        for line in process.stderr:
            if "builds the engine" in line:
                os.killpg(process.pid, signal.SIGINT)
                break
        said = process.stderr.read()
        code = process.wait()
    assert code == 130, said
    assert "stopped listening" in said
    assert main(arguments(bundle, board)) == 0
    captured = capsys.readouterr()
    assert "found the build that" in captured.err
    assert "by an earlier call" in captured.out
    assert len(board.plans()) == 1


def two_probes():
    """Two decoders for the Nano; the double of TensorRT computes them, and takes its time."""
    found = [
        Architecture(blocks=(BlockSpec(64, 4, 4, 128, depth),), vocab_size=320, max_seq_len=64)
        for depth in (1, 2)
    ]
    return ProbeSet(
        space="two",
        seed=1,
        target="nano",
        precision="fp16",
        context_len=64,
        lengths=[32],
        anchor=found[0].arch_id,
        architectures={a.arch_id: a for a in found},
        roles={a.arch_id: "fit" for a in found},
    )


def test_probes_of_a_nano_are_timed_by_its_engines(board, tmp_path):
    output = str(tmp_path / "table.json")
    with pytest.raises(SpecError, match="timed for 2 decoders, a fit needs"):
        profile_on_board(
            two_probes(),
            RECIPES["nano"],
            output,
            board.host,
            Timing("tensorrt", max_minutes=0.001),
            RemoteOptions(board.ssh_options),
        )
    table = read_table(os.path.join(run_folder(output), "board-table.json"))
    assert table.setting.backend == "tensorrt"
    assert table.device.python.startswith("3.6.")
    assert {row.workload for row in table.rows} == {"decode@32", "prefill@24"}
    assert len(table.rows) == 4
    assert len(board.plans()) == 2


def test_a_board_without_tensorrt_is_told_before_a_probe_is_built(board, tmp_path, capsys):
    board.install(more=f"export PYTHONPATH={ROOT}")
    words = ["profile", "--target", "nano", "-o", str(tmp_path / "table.json")]
    assert main([*words, *arguments("", board)[2:]]) == 1
    assert "JetPack" in capsys.readouterr().err
    assert not list(tmp_path.glob("table.json*"))
