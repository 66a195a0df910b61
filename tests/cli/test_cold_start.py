"""A first token should not wait for what it does not need: modules, and bytes of the weights."""

import os
import subprocess
import sys

import pytest
from doubles import native_bundle

from merino_edge.formats.bundle import Bundle
from merino_edge.formats.native_file import read_tensors

NOT_NEEDED = {
    "the workstation's half": ["torch", "onnx", "merino_edge.core", "merino_edge.export"],
    "other backends": [
        "onnxruntime",
        "merino_edge.runtime.backends.ort",
        "merino_edge.runtime.backends.reference",
        "merino_edge.runtime.engine",
        "merino_edge.runtime.cuda",
    ],
    "other commands": [
        "merino_edge.cli.commands.bench",
        "merino_edge.runtime.bench",
        "merino_edge.runtime.doctor",
        "merino_edge.runtime.verify",
    ],
    "making and verifying files": ["hashlib", "tempfile"],
    "drawing": ["numpy.random"],
    "networks and processes": ["ssl", "socket", "http", "urllib.request", "subprocess"],
    "what describes a machine": ["importlib.metadata", "merino_edge.runtime.device_info"],
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory, native_library):
    """Every module that a greedy run as a process imports."""
    bundle = native_bundle(tmp_path_factory.mktemp("cold") / "bundle")
    words = ["run", bundle, "--prompt", "The sheep", "--max-new-tokens", "2"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "merino_edge", *words],
        # Measured by coverage.py, which brings imports of its own, it would not be a user's.
        env={key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "backend native" in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize("kind", list(NOT_NEEDED))
def test_a_run_on_the_native_decoder_imports_nothing_of(kind, imported):
    assert "merino_edge.runtime.backends.native" in imported
    assert [name for name in NOT_NEEDED[kind] if name in imported] == []


def test_opening_a_bundle_reads_none_of_its_weights(tmp_path, native_library):
    """Else it would find the one weight that changed, as ``verify`` does."""
    path = native_bundle(tmp_path / "bundle")
    bundle = Bundle.open(path)
    places = read_tensors(bundle.file("native"), bundle.manifest.architecture)
    with open(bundle.file("native"), "r+b") as stream:
        stream.seek(places["blocks.0.ffn.up.weight"].offset)
        stream.write(b"\x11" * 4)
    words = ["--prompt", "a", "--max-new-tokens", "1", "-q"]
    run = [sys.executable, "-m", "merino_edge"]

    assert subprocess.run([*run, "run", path, *words], capture_output=True).returncode == 0
    verified = subprocess.run([*run, "verify", path, "-q"], capture_output=True, text=True)
    assert verified.returncode == 8
    assert "sha256" in verified.stderr
