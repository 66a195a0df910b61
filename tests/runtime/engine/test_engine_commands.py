"""A board's commands, as its owner types them: build, run, verify, inspect, and what goes wrong.

The command line is the real one, and so is the child process that builds; ``tensorrt`` and
libcudart are the strict doubles. This file obeys the rules of Python 3.6.
"""

import json
import os
import shutil
import sys

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from engine_machine import GOLDEN, Machine

from merino_edge.cli.main import main
from merino_edge.runtime.engine import preflight

pytestmark = pytest.mark.onnx
SITE = os.path.join(os.path.dirname(__file__), "..", "..", "tensorrt_double", "site")
ROOT = os.path.join(os.path.dirname(__file__), "..", "..", "..")


class Board(Machine):
    """A board with a bundle, and with the double for child processes too."""

    def __init__(self, version, cudart_double, monkeypatch, folder):
        super().__init__(version, cudart_double, monkeypatch, folder)
        self.bundle = os.path.join(self.folder, "bundle")
        self.engines = os.path.join(self.folder, "engines")
        self._patch = monkeypatch
        shutil.copytree(GOLDEN, self.bundle)
        path = os.pathsep.join([os.path.abspath(ROOT), os.path.abspath(SITE)])
        monkeypatch.setenv("PYTHONPATH", path)
        monkeypatch.setenv("TENSORRT_DOUBLE_VERSION", version)
        monkeypatch.setenv("TENSORRT_DOUBLE_CUDART", cudart_double.path)

    def plant(self, **faults):
        """Faults of the child's TensorRT."""
        self._patch.setenv("TENSORRT_DOUBLE_FAULTS", json.dumps(faults))

    def files(self):
        """Name -> content of everything in the cache."""
        if not os.path.isdir(self.engines):
            return {}
        found = {}
        for name in os.listdir(self.engines):
            with open(os.path.join(self.engines, name), "rb") as stream:
                found[name] = stream.read()
        return found

    def engine_files(self):
        """The same without the timing cache, which every build may extend."""
        return {n: data for n, data in self.files().items() if not n.startswith("timing-")}

    def record(self):
        """Path of the only record."""
        (name,) = [n for n in os.listdir(self.engines) if n.endswith(".json")]
        return os.path.join(self.engines, name)

    def plan(self):
        """Path of the only plan."""
        (name,) = [n for n in os.listdir(self.engines) if n.endswith(".plan")]
        return os.path.join(self.engines, name)


@pytest.fixture
def board(request, cudart_double, monkeypatch, tmp_path):
    version = getattr(request, "param", "8.2.1")
    return Board(version, cudart_double, monkeypatch, tmp_path)


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("board", ["8.0.1", "8.2.1", "8.6.1", "10.3", "11.0"], indirect=True)
def test_build_makes_an_engine_that_run_uses(board, capsys):
    assert run("build", board.bundle, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["record"]["verified"]["n_golden_right"] == 4
    assert told["record"]["verified"]["max_logit_error"] < 1e-2
    assert told["record"]["key"]["tensorrt"].startswith(board.version)
    assert os.path.getsize(told["engine"]) == told["size_bytes"]

    before = board.files()
    assert run("run", board.bundle, "--prompt", "The sheep", "--max-new-tokens", 5) == 0
    assert "backend tensorrt: TensorRT " + board.version in capsys.readouterr().err
    assert board.files() == before


def test_an_engine_that_fits_is_not_built_twice(board, capsys):
    assert run("build", board.bundle, "-q") == 0
    before = board.files()
    board.plant(build={"message": "it must not be built"})
    assert run("build", board.bundle, "-q") == 0
    assert "(built before)" in capsys.readouterr().out
    assert board.files() == before


def test_the_first_use_builds(board, capsys):
    assert run("run", board.bundle, "--prompt", "The sheep", "--max-new-tokens", 3) == 0
    told = capsys.readouterr().err
    assert "no engine was built here yet" in told
    assert os.path.exists(board.plan())


def test_inspect_tells_key_and_state(board, capsys):
    run("build", board.bundle, "-q")
    capsys.readouterr()
    assert run("inspect", board.bundle) == 0
    card = capsys.readouterr().out
    assert "a past of 128, 256, 300" in card
    assert "for tensorrt 8.2.1.8, a double of a Tegra X1 (5.3), CUDA 10.2" in card
    assert run("inspect", "--engines", "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["problem"] is None
    assert entry["record"]["bundle_name"] == "tiny"


def test_verify_runs_on_the_engine(board, capsys):
    run("build", board.bundle, "-q")
    assert run("verify", board.bundle, "--backend", "tensorrt") == 0
    assert "golden tokens agree (TensorRT 8.2.1.8" in capsys.readouterr().out


def test_another_tensorrt_is_told_before_anything_is_deserialised(board, capsys, monkeypatch):
    run("build", board.bundle, "-q")
    before, old = board.files(), board.trt
    Machine.__init__(board, "8.0.1", board.cuda, monkeypatch, board.folder)  # another JetPack
    board.trt._faults.fail("deserialize", message="it must not be asked")
    capsys.readouterr()

    assert run("run", board.bundle, "--prompt", "x") == 3
    told = capsys.readouterr().err
    assert "TensorRT: built with 8.2.1.8, here is 8.0.1.6" in told
    assert "hint: merino-edge build " + board.bundle in told
    assert board.trt._faults.due("deserialize")
    assert board.files() == before

    monkeypatch.setitem(sys.modules, "tensorrt", old)
    assert run("run", board.bundle, "--prompt", "x", "--max-new-tokens", 1) == 0


def change_key(board, **fields):
    with open(board.record(), encoding="utf-8") as stream:
        document = json.load(stream)
    document["key"].update(fields)
    with open(board.record(), "w", encoding="utf-8") as stream:
        json.dump(document, stream)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"gpu_name": "NVIDIA Orin"}, "GPU: built with NVIDIA Orin, here is a double"),
        ({"compute_capability": "8.7"}, "compute capability: built with 8.7, here is 5.3"),
        ({"cuda": "11.4"}, "CUDA: built with 11.4, here is 10.2"),
    ],
)
def test_an_engine_from_elsewhere_is_told(board, capsys, fields, words):
    run("build", board.bundle, "-q")
    change_key(board, **fields)
    before = board.files()
    assert run("run", board.bundle, "--prompt", "x") == 3
    assert words in capsys.readouterr().err
    assert board.files() == before


def test_an_engine_of_another_graph_is_told(board, capsys):
    run("build", board.bundle, "-q")
    change_key(board, onnx_sha256="0" * 64)
    assert run("run", board.bundle, "--prompt", "x") == 3
    assert "the graph (decoder.onnx): built with 000000000000" in capsys.readouterr().err


def test_a_truncated_plan_is_told_and_force_mends_it(board, capsys):
    run("build", board.bundle, "-q")
    with open(board.plan(), "r+b") as stream:
        stream.truncate(1000)
    assert run("run", board.bundle, "--prompt", "x") == 8
    told = capsys.readouterr().err
    assert "1000 bytes" in told
    assert f"hint: merino-edge build {board.bundle} --force" in told
    assert run("build", board.bundle, "-q", "--force") == 0
    assert run("run", board.bundle, "--prompt", "x", "--max-new-tokens", 1) == 0


def test_a_changed_plan_is_told(board, capsys):
    run("build", board.bundle, "-q")
    with open(board.plan(), "r+b") as stream:
        stream.seek(500)
        stream.write(b"\0\1\2")
    assert run("run", board.bundle, "--prompt", "x") == 8
    assert "sha256" in capsys.readouterr().err


FAILURES = {
    "killed": ({"build_is_killed": True}, 4, "memory"),
    "out of memory": ({"build": {}}, 4, "memory"),
    "refused": ({"build": {"message": "no tactic"}}, 3, "no tactic"),
    "not parsed": ({"parse": {"message": "a node it does not know"}}, 3, "does not know"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_build_that_fails_leaves_the_old_engine(board, capsys, failure):
    faults, code, words = FAILURES[failure]
    run("build", board.bundle, "-q")
    before = board.engine_files()
    board.plant(**faults)
    assert run("build", board.bundle, "-q", "--force") == code
    assert words in capsys.readouterr().err
    assert board.engine_files() == before


def test_an_engine_that_computes_wrongly_never_counts(board, capsys):
    run("build", board.bundle, "-q")
    before = board.engine_files()
    board.trt._faults.spoils_outputs = True
    assert run("build", board.bundle, "-q", "--force") == 5
    assert "golden prompt" in capsys.readouterr().err
    assert board.engine_files() == before


def test_too_little_memory_is_told_before_anything_is_built(board, capsys, monkeypatch):
    little = {"MemTotal": 800 << 20, "MemAvailable": 300 << 20, "SwapFree": 0}
    monkeypatch.setattr(preflight, "meminfo_bytes", lambda root: little)
    monkeypatch.setattr(preflight, "free_swap_bytes", lambda root: 0)
    assert run("build", board.bundle, "-q") == 4
    told = capsys.readouterr().err
    assert "not enough memory to build" in told
    assert "swapfile" in told
    assert board.engine_files() == {}


def test_a_full_disk_is_told_before_anything_is_built(board, capsys, monkeypatch):
    real = os.statvfs

    class Full:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr(
        os, "statvfs", lambda path: Full if "engines" in str(path) else real(path), raising=True
    )
    assert run("build", board.bundle, "-q") == 4
    assert "MERINO_EDGE_CACHE" in capsys.readouterr().err
    assert board.engine_files() == {}


def test_a_disk_that_fills_up_leaves_the_old_engine(board, capsys, monkeypatch):
    run("build", board.bundle, "-q")
    before = board.engine_files()
    launcher = os.path.join(board.folder, "python")
    with open(launcher, "w", encoding="utf-8") as stream:
        stream.write(f'#!/bin/sh\nulimit -f 1\nexec "{sys.executable}" "$@"\n')
    os.chmod(launcher, 0o755)
    monkeypatch.setattr(sys, "executable", launcher)
    assert run("build", board.bundle, "-q", "--force") == 1
    assert "error:" in capsys.readouterr().err
    assert board.engine_files() == before


def test_a_bundle_without_weights_is_told(board, capsys):
    os.unlink(os.path.join(board.bundle, "weights.safetensors"))
    assert run("build", board.bundle, "-q") == 8
    assert "weights.safetensors" in capsys.readouterr().err


def test_a_bundle_with_changed_weights_is_told(board, capsys):
    path = os.path.join(board.bundle, "weights.safetensors")
    with open(path, "r+b") as stream:
        stream.seek(-10, os.SEEK_END)
        stream.write(b"0123456789")
    assert run("build", board.bundle, "-q") == 8
    assert "sha256" in capsys.readouterr().err


def test_a_bundle_that_needs_no_engine_says_so(board, capsys):
    host = os.path.join(os.path.dirname(GOLDEN), "tiny-bundle")
    assert run("build", host, "-q") == 0
    assert capsys.readouterr().out == "nothing to build: a bundle for 'host' needs no engine.\n"
    assert run("build", host, "-q", "--json") == 0
    assert json.loads(capsys.readouterr().out)["engine"] is None
    assert run("run", host, "--backend", "tensorrt", "--prompt", "x") == 3
    assert "was built for 'host', which has no engine" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [("--context", 10), ("--random-weights",), ("--best", 4), ("--target", "rtx")]
)
def test_what_a_bundle_has_already_cannot_be_asked_for(board, capsys, option):
    assert run("build", board.bundle, *option) == 2
    assert option[0] in capsys.readouterr().err


def test_without_tensorrt_the_board_says_how_to_get_it(board, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert run("build", board.bundle, "-q") == 1
    assert "JetPack" in capsys.readouterr().err
    assert run("run", board.bundle, "--prompt", "x", "--max-new-tokens", 1) == 0
    assert "not the fastest backend" in capsys.readouterr().err


def test_without_a_gpu_the_cause_is_told(board, capsys):
    board.cuda.fail_next("cudaGetDeviceCount", 100)
    assert run("build", board.bundle, "-q") == 1
    assert "cudaErrorNoDevice" in capsys.readouterr().err
