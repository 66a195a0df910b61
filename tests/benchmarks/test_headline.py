"""The headline: every decoder by the same road, ratios as read, and nothing is timed twice."""

import argparse
import importlib
import sys

import pytest
from doubles import tiny_architecture
from repository import ROOT

from merino_edge.core import counting
from merino_edge.errors import UsageError

pytestmark = [pytest.mark.torch, pytest.mark.onnx]
FOLDERS = ("headline", "quality", "tensorrt")
# What is published of them; OPT's tables of positions have two rows more, which nothing reads.
PUBLISHED = {
    "opt-125m": 125_239_296 - 2 * 768,
    "opt-350m": 331_196_416 - 2 * 1024,
    "pythia-70m": 70_426_624,
    "pythia-160m": 162_322_944,
    "gpt2": 124_439_808,
    "smollm2-135m": 134_515_008,
}


@pytest.fixture
def headline(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, *(str(ROOT / "benchmarks" / f) for f in FOLDERS)])
    return importlib.import_module("headline")


def test_ours_keep_the_papers_budgets_and_the_others_are_what_is_published(headline):
    found = headline.chosen("")
    assert list(found)[:3] == ["merino-52m", "merino-61m", "merino-64m"]
    for name, most in (("merino-52m", 52e6), ("merino-61m", 61e6), ("merino-64m", 64e6)):
        assert counting.n_params(found[name]) <= most
    assert {name: counting.n_params(found[name]) for name in PUBLISHED} == PUBLISHED


@pytest.mark.parametrize("words", ["opt-13b", "merino-64m,opt-13b"])
def test_a_decoder_that_there_is_not_is_named(headline, words):
    with pytest.raises(UsageError, match="no decoder 'opt-13b'"):
        headline.chosen(words)


@pytest.mark.parametrize("words", ["native", "ort:int2", "native:int8,"])
def test_a_form_that_there_is_not_is_named(headline, words):
    with pytest.raises(UsageError, match="there is no form"):
        headline.forms_of(words)


def test_only_bundles_of_the_forms_that_are_wanted_are_built(headline, monkeypatch, tmp_path):
    built = []

    def build(*words):
        built.append((words[words.index("--target") + 1], words[words.index("--precision") + 1]))
        (tmp_path / words[words.index("-o") + 1]).mkdir()

    monkeypatch.setattr(headline, "command", build)
    work = headline.Workshop(argparse.Namespace(work=str(tmp_path)))
    for form in headline.forms_of("native:int8,ort:int8,ort:fp32"):
        work.build("tiny", tiny_architecture(), form)
    assert built == [("host", "int8"), ("host", "fp32")]
    work.build("tiny", tiny_architecture(), ("native", "fp32"))
    assert built[-1] == ("nano-cpu", "fp32")


@pytest.mark.slow
def test_all_forms_are_built_timed_once_and_compared(
    headline, monkeypatch, tmp_path, capsys, native_library
):
    small = tiny_architecture(max_seq_len=512)
    large = small.replace(blocks=small.blocks * 2, vocab_size=600)
    monkeypatch.setattr(headline, "chosen", lambda names: {"merino-t": small, "opt-350m": large})
    words = ["--work", str(tmp_path / "work"), "--rounds", "2", "--prompt", "8", "--tokens", "4"]
    monkeypatch.setattr(sys, "argv", ["headline.py", *words, "-o", str(tmp_path / "out.json")])
    headline.main()
    out = capsys.readouterr().out
    assert "native int8" in out
    assert "| a token, ort fp32 (measured)" in out
    rounds = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "rounds").iterdir()}
    assert len(rounds) == 2 * 2 * 7
    headline.main()
    assert {path: path.stat().st_mtime_ns for path in rounds} == rounds
