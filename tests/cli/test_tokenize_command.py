"""`merino-edge tokenize`, as a person meets it: the card, the JSON, the errors, Ctrl-C."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from pydoc_data.topics import topics

import pytest

from merino_edge.cli.main import main

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with texts/, which holds two chapters and some records, and the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    for name in ("import", "strings"):
        (tmp_path / "texts" / (name + ".txt")).write_text(topics[name], encoding="utf-8")
    paragraphs = [p for p in topics["specialnames"].split("\n\n") if len(p) > 60]
    records = (json.dumps({"body": text}) + "\n" for text in paragraphs)
    (tmp_path / "records.jsonl").write_text("".join(records))
    return tmp_path


def tokenize(*words, corpus="texts", vocab_size="300"):
    vocabulary = ["--vocab-size", vocab_size] if vocab_size else []
    words = ["--corpus", corpus, *vocabulary, "-o", "tokens", "--workers", "1", *words]
    return main(["tokenize", *words])


def test_it_prints_a_card_and_then_refuses_to_do_it_again(home, capsys):
    assert tokenize() == 0
    out, err = capsys.readouterr()
    assert "| documents " in out
    assert "bytes a token" in out
    assert "tokenize: done" in err
    assert {p.name for p in (home / "tokens").iterdir()} == {
        "tokens.json",
        "tokenizer.json",
        "train-0000.bin",
        "val-0000.bin",
    }
    assert tokenize() == 2
    assert "'tokens' exists already" in capsys.readouterr().err
    assert tokenize("--force") == 0


def test_json_is_all_that_stdout_holds_and_quiet_says_nothing_else(home, capsys):
    words = ["--text-field", "body", "--json", "--quiet"]
    assert tokenize(*words, corpus="records.jsonl") == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert facts["tokens"] == "tokens"
    assert facts["vocab_size"] == 300
    assert facts["train_tokens"] > facts["val_tokens"] > 0
    assert facts["run_tokens"] == 50
    assert err == ""


def test_a_tokenizer_can_be_given_and_not_both_nor_none(home, capsys):
    assert tokenize() == 0
    assert tokenize("--tokenizer", "tokens/tokenizer.json", "--force", vocab_size=None) == 0
    capsys.readouterr()
    assert tokenize("--tokenizer", "tokens/tokenizer.json") == 2
    assert tokenize(vocab_size=None) == 2
    assert "one of the arguments --tokenizer --vocab-size is required" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("bad.txt", b"caf\xe9", 8, "bad.txt: not UTF-8 at byte 3"),
        ("bad.jsonl", b'{"text": "a"}\nnot json\n', 8, "bad.jsonl: line 2: not JSON"),
        ("bad.jsonl", b'{"body": "a"}\n', 8, "line 1: there is no field 'text'"),
        ("bad.txt.gz", b"no archive", 8, "the archive is damaged"),
        ("bad.txt", b" \n", 8, "the corpus is empty"),
        ("bad.txt", b"to be or not to be\n" * 9, 2, "tokens, vocab_size is 300"),
    ],
)
def test_a_bad_corpus_has_one_clear_error_and_leaves_nothing(
    home, capsys, name, content, code, words
):
    (home / name).write_bytes(content)
    assert tokenize(corpus=name) == code
    out, err = capsys.readouterr()
    assert words in err
    assert "Traceback" not in err
    assert out == ""
    assert not list(home.glob("tokens*"))


@pytest.mark.parametrize("value", ["0", "1", "1.5", "x"])
def test_a_fraction_that_is_none_is_refused(home, capsys, value):
    assert tokenize("--val-fraction", value) == 2
    assert f"'{value}' is not" in capsys.readouterr().err


def test_ctrl_c_says_how_to_continue(home):
    """The whole process group gets the signal, as from a terminal; workers stay silent."""
    assert tokenize() == 0
    everything = "\n".join(topics.values())
    records = (json.dumps({"text": f"{n} {everything}"}) + "\n" for n in range(40))
    (home / "large.jsonl").write_text("".join(records))  # some 20 s of work
    words = ["tokenize", "--corpus", "large.jsonl", "--tokenizer", "tokens/tokenizer.json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "merino_edge", *words, "-o", "out", "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (home / "out.part" / "train-0000.bin").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert "stopped; shards that are complete are kept in 'out.part'" in err
    assert (
        "hint: continue with: merino-edge tokenize --corpus large.jsonl"
        " --tokenizer tokens/tokenizer.json --output out --workers 2 --text-field text"
        " --val-fraction 0.05 --sample 256000000\n"
    ) in err
    assert not (home / "out").exists()
