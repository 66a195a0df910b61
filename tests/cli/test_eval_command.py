"""`merino-edge eval`, as a person meets it: the table, the JSON, the file, the errors."""

import json

import pytest
from doubles import tiny_bundle
from tiny_tasks import write_checkpoint, write_data

from merino_edge.cli.main import main

pytest.importorskip("torch")
pytest.importorskip("lm_eval")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with data/, checkpoint/ and bundle/, and the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write_data(tmp_path / "data")
    write_checkpoint(tmp_path / "checkpoint")
    tiny_bundle(tmp_path / "bundle")
    return tmp_path


def run(*words):
    return main(["eval", *words, "--data", "data", "--threads", "1"])


def test_a_table_with_standard_errors_and_how_each_was_got(home, capsys):
    assert run("checkpoint", "--tasks", "ptb,colours", "--context", "64") == 0
    out = capsys.readouterr().out
    assert out.startswith("checkpoint, checkpoint ")
    for words in ("| ptb", "word_perplexity_eos", "bits_per_byte", "| colours", "acc_norm"):
        assert words in out
    assert "ptb: the file as one text, after token 0; windows of 64 tokens, stride 64" in out
    assert "colours: lm-evaluation-harness" in out


def test_the_file_holds_what_is_needed_to_believe_it(home, capsys):
    words = ("--tasks", "ptb,colours", "-o", "out.json", "--items", "items.jsonl", "--json", "-q")
    assert run("checkpoint", *words) == 0
    document = json.loads((home / "out.json").read_text())
    assert json.loads(capsys.readouterr().out) == document
    assert document["schema"] == "merino-edge.evaluation/1"
    assert document["model"]["kind"] == "checkpoint"
    assert len(document["tasks"][0]["files"]["lm/ptb/ptb.test.txt"]) == 64
    assert {"torch", "lm_eval", "merino-edge"} <= set(document["versions"])
    items = [json.loads(line) for line in (home / "items.jsonl").read_text().splitlines()]
    assert sum(item["task"] == "colours" for item in items) == 8
    assert not (home / "out.json.journal").exists()  # it did its work
    assert run("checkpoint", *words) == 2  # a result is not replaced
    assert run("checkpoint", *words, "--force") == 0


def test_a_bundle_is_scored_on_its_backend(home, capsys):
    words = ("--tasks", "colours", "--backend", "reference", "--limit", "2", "--json", "-q")
    assert run("bundle", *words) == 0
    model = json.loads(capsys.readouterr().out)["model"]
    assert (model["kind"], model["computed_by"].split(":")[0]) == ("bundle", "reference")


def test_the_harness_gives_the_same_figure(home, capsys):
    assert run("checkpoint", "--tasks", "colours", "--json", "-q") == 0
    ours = json.loads(capsys.readouterr().out)["tasks"][0]["metrics"]["acc_norm"]
    assert run("checkpoint", "--tasks", "colours", "--harness", "--json", "-q") == 0
    theirs = json.loads(capsys.readouterr().out)["results"]["colours_local"]
    assert theirs["acc_norm,none"] == pytest.approx(ours["value"])
    assert theirs["acc_norm_stderr,none"] == pytest.approx(ours["stderr"])


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["checkpoint", "--tasks", "colors"], 2, "there is no task 'colors'"),
        (["checkpoint", "--tasks", ","], 2, "no task was named"),
        (["checkpoint", "--tasks", "ptb,ptb"], 2, "'ptb' stands twice in --tasks"),
        (["checkpoint", "--tasks", "ptb_valid"], 8, "the file does not exist"),
        (["checkpoint", "--tasks", "ptb", "--backend", "ort"], 2, "computed by torch, not by ort"),
        (["bundle", "--tasks", "ptb", "--backend", "torch"], 2, "by its backend, not by torch"),
        (["checkpoint", "--tasks", "ptb", "--context", "999"], 2, "the model reads 128 tokens"),
        (["data", "--tasks", "ptb"], 8, "neither a checkpoint nor a bundle"),
        (["nosuch", "--tasks", "ptb"], 8, "neither a checkpoint nor a bundle"),
        (["bundle", "--tasks", "ptb", "--backend", "native"], 3, "no file for the native decoder"),
        (["checkpoint", "--tasks", "ptb", "--limit", "0"], 2, "not a whole number above zero"),
        (["checkpoint", "--tasks", "ptb", "--stride", "999"], 2, "longer than the context"),
        (["checkpoint", "--tasks", "colours", "--fewshot", "9"], 2, "has 8 examples"),
        (["checkpoint", "--tasks", "ptb", "-o", "no/out.json"], 2, "does not exist"),
    ],
)
def test_what_was_asked_wrongly_is_one_error(home, capsys, words, code, told):
    assert run(*words) == code
    err = capsys.readouterr().err
    assert told in err
    assert err.count("error:") == 1


@pytest.mark.parametrize(
    ("folder", "name", "data", "told"),
    [
        ("bundle", "manifest.json", b"{", "not JSON"),
        ("bundle", "tokenizer.json", None, "it is missing"),
        ("checkpoint", "checkpoint.json", b"{", "not JSON"),
        ("checkpoint", "model.safetensors", None, "does not exist"),
        ("checkpoint", "model.safetensors", b"The sheep", "not a safetensors file"),
        ("checkpoint", "tokenizer.json", b"{}", "not a tokenizer.json"),
    ],
)
def test_a_damaged_or_missing_file_is_one_error_with_its_name(
    home, capsys, folder, name, data, told
):
    if data is None:
        (home / folder / name).unlink()
    else:
        (home / folder / name).write_bytes(data)
    assert run(folder, "--tasks", "ptb") == 8
    err = capsys.readouterr().err
    assert err.count("error: ") == 1
    assert name in err
    assert told in err
