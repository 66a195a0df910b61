"""The readers of archives and manifests under a coverage-guided fuzzer, where there is one."""

import importlib.util
import os
import subprocess
import sys

import pytest
from repository import ROOT

SCRIPT = ROOT / "benchmarks" / "updates" / "fuzz_readers.py"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("target", ["archive", "manifest"])
def test_nothing_but_a_merino_error_comes_out_of_a_reader(target, tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), target, str(tmp_path / "corpus"), "-runs=100000"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 100000 runs" in done.stderr
