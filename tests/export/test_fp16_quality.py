"""What half precision may cost SmolLM2: less than 1 % of perplexity, at most 2 of 20 prompts.

The script that measures is run as anyone would run it, on bundles made from the real weights; the
figures that stand in the repository are held to the same claims.
"""

import os
import subprocess
import sys

import pytest
from real_model import smollm2_path
from repository import ROOT

from merino_edge.export.bundler import Source, build_bundle
from merino_edge.formats import jsonio

SCRIPT = ROOT / "benchmarks" / "tensorrt" / "fp16_quality.py"
PUBLISHED = ROOT / "benchmarks" / "results" / "tensorrt" / "fp16_quality.json"
FP32_PERPLEXITY = 27.614  # of torch, as in tests/model/test_smollm2_import.py

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


def hold_the_claims(report):
    assert report["fp32"]["value"] == pytest.approx(FP32_PERPLEXITY, rel=2e-3)
    assert report["setting"]["n_new"] == 64
    quality = report["onnx_runtime"]
    assert quality["perplexity"]["value"] < 1.01 * report["fp32"]["value"]
    assert len(quality["continuations"]) == 20
    assert quality["n_prompts_equal"] >= 18
    assert report["ranges"]["n_errors"] == 0


@pytest.mark.slow
@pytest.mark.data
def test_half_precision_keeps_perplexity_and_eighteen_of_twenty_prompts(tmp_path, shared_data):
    pytest.importorskip("gguf")
    from merino_edge.model.importers.models import import_model

    checkpoint = import_model(smollm2_path(), str(tmp_path / "checkpoint")).checkpoint
    source = Source.from_checkpoint(checkpoint)
    for target in ("host", "nano"):
        build_bundle(source, target, 512, str(tmp_path / target))
    text = os.path.join(shared_data, "lm", "wikitext-2", "wiki.test.tokens")
    command = [sys.executable, str(SCRIPT), "host", "nano", "--text", text, "--no-emulation"]
    command += ["-o", "found.json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    hold_the_claims(jsonio.read_json(str(tmp_path / "found.json")))


def test_the_published_figures_hold_the_claims():
    report = jsonio.read_json(str(PUBLISHED))

    hold_the_claims(report)
    worst_case = report["half_sums"]["perplexity"]["value"]
    assert worst_case < 1.01 * report["fp32"]["value"]
