"""The scripts beside `merino-edge eval`: speed against the harness, and two runs item by item."""

import importlib
import json
import sys

import pytest
from doubles import llama_architecture
from repository import ROOT
from tiny_tasks import write_checkpoint, write_data

from merino_edge.errors import FormatError

FOLDER = ROOT / "benchmarks" / "quality"


def script(name, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])
    return importlib.import_module(name)


@pytest.fixture
def compare_items(monkeypatch):
    return script("compare_items", monkeypatch)


def item(number, choice, acc, likely=(-1.0, -2.0)):
    found = {"task": "t", "item": number, "log_likelihoods": list(likely)}
    return {**found, "choice": choice, "metrics": {"acc": acc}}


def written(path, items):
    path.write_text("".join(json.dumps(each) + "\n" for each in items))
    return str(path)


def test_items_are_compared_where_both_have_them(compare_items, tmp_path):
    one = written(tmp_path / "1", [item(0, 0, 1.0), item(1, 1, 0.0), item(2, 0, 1.0)])
    other = written(tmp_path / "2", [item(0, 0, 1.0, (-1.5, -2.0)), item(1, 0, 1.0)])
    rows = compare_items.compare(compare_items.read(one), compare_items.read(other))
    assert rows == [("t", "2", "1", "5.0e-01", "0", "1", "1.000")]


def test_the_sign_test_is_the_binomials_tail(compare_items):
    assert compare_items.sign_test(0, 0) == 1.0
    assert compare_items.sign_test(0, 6) == pytest.approx(2 / 64)
    assert compare_items.sign_test(3, 3) == 1.0
    assert compare_items.sign_test(1, 9) == pytest.approx(2 * 11 / 1024)


def test_files_without_common_items_are_refused(compare_items, tmp_path):
    one = compare_items.read(written(tmp_path / "1", [item(0, 0, 1.0)]))
    other = compare_items.read(written(tmp_path / "2", [item(1, 0, 1.0)]))
    with pytest.raises(FormatError, match="no item in common"):
        compare_items.compare(one, other)
    with pytest.raises(FormatError, match="not the items of an evaluation"):
        compare_items.read(written(tmp_path / "3", [{"task": "t"}]))


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_speed_is_measured_in_turns_and_answers_are_compared(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("lm_eval")
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    eval_speed = script("eval_speed", monkeypatch)
    a = llama_architecture(max_seq_len=128, tie_embeddings=True)
    path = write_checkpoint(tmp_path / "checkpoint", a)
    data, out = write_data(tmp_path / "data"), tmp_path / "out.json"
    words = ["--data", data, "--tasks", "colours", "--batches", "1,4", "--rounds", "2"]
    monkeypatch.setattr(
        sys, "argv", ["eval_speed.py", path, *words, "--threads", "1", "-o", str(out)]
    )
    eval_speed.main()
    report = json.loads(out.read_text())
    assert [way["by"] for way in report["ways"]] == [
        "torch float32",
        "HFLM, batch 1",
        "HFLM, batch 4",
    ]
    for way in report["ways"]:
        assert len(way["seconds"]) == 2
        assert way["largest_difference"] < 1e-4
        assert way["n_other_choices"] == 0
    (tokens,) = report["tokens"]
    assert tokens["in_trees"] < tokens["alone"]
