"""The scripts beside `merino-edge eval`: speed against the harness, and two runs item by item."""

import argparse
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


@pytest.mark.torch
@pytest.mark.onnx
@pytest.mark.slow
def test_forms_of_one_model_are_scored_once_and_compared(monkeypatch, tmp_path):
    pytest.importorskip("lm_eval")
    pretrained = script("pretrained", monkeypatch)
    a = llama_architecture(max_seq_len=128, tie_embeddings=True)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", a)
    bundle = str(tmp_path / "bundle")
    build = ("build", "--target", "host", "--precision", "fp32", checkpoint, "-o", bundle)
    pretrained.command(*build)
    work = tmp_path / "work"
    words = ["--data", write_data(tmp_path / "data"), "--work", str(work), "--context", "64"]
    words += ["--form", f"torch={checkpoint}", "--form", f"ours={bundle}:ort@3"]
    words += [
        "--tasks",
        "ptb,colours",
        "--limit",
        "5",
        "--text-limit",
        "2",
        "-o",
        str(tmp_path / "out.json"),
    ]
    monkeypatch.setattr(sys, "argv", ["pretrained.py", *words])
    pretrained.main()
    first = (tmp_path / "out.json").read_text()
    torch_form, ort_form = json.loads(first)["forms"]
    assert [row["n_items"] for row in torch_form["rows"]] == [2, 5]
    assert ort_form["rows"][1]["difference"]["n"] == 3
    assert ort_form["rows"][1]["difference"]["n_other_choices"] == 0
    assert ort_form["rows"][1]["difference"]["largest"] < 1e-3
    times = [path.stat().st_mtime_ns for path in sorted(work.iterdir())]
    pretrained.main()
    assert [path.stat().st_mtime_ns for path in sorted(work.iterdir())] == times


@pytest.mark.parametrize("words", ["=x", "a=", "a=b@c", "a"])
def test_a_form_that_cannot_be_read_is_refused(monkeypatch, words):
    with pytest.raises(argparse.ArgumentTypeError, match="is not NAME=PATH"):
        script("pretrained", monkeypatch).wanted(words)


def test_a_form_has_a_backend_and_a_limit_of_its_own(monkeypatch):
    wanted = script("pretrained", monkeypatch).wanted
    assert wanted("double=nano/:tensorrt@10") == ("double", "nano/", "tensorrt", 10)
    assert wanted("torch=smollm2/") == ("torch", "smollm2/", "torch", None)
