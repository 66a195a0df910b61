"""The race against transformers.Trainer: equal models, a report that says of what."""

import importlib.util
import json
import subprocess
import sys

import pytest
from repository import ROOT

SCRIPT = ROOT / "benchmarks" / "training" / "speed.py"
SMALL = ["--d-model", "32", "--heads", "2", "--layers", "2", "--vocab-size", "300"]
SMALL += ["--batch-size", "2", "--seq-len", "16", "--steps", "2", "--rounds", "1", "--threads", "1"]
missing = [n for n in ("transformers", "accelerate") if importlib.util.find_spec(n) is None]
pytestmark = [
    pytest.mark.torch,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
]


def test_a_small_race_has_a_report_and_a_table(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *SMALL, "-o", "found.json"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["conditions"]["seq_len"] == 16
    assert {"torch", "transformers", "accelerate"} <= set(found["provenance"]["versions"])
    assert [race["precision"] for race in found["races"]] == ["float32", "bfloat16"]
    for race in found["races"]:
        ours, theirs = race["ours_tok_per_s"][0], race["theirs_tok_per_s"][0]
        assert race["ratio"] == pytest.approx(ours / theirs, rel=1e-2)
    assert "| float32 " in done.stdout
