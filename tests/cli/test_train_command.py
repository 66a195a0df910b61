"""`merino-edge train`, as a person meets it: the card, the JSON, the errors, Ctrl-C."""

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
from merino_edge.formats.architecture import Architecture, BlockSpec, write_architecture

pytestmark = pytest.mark.torch
ROOT = pathlib.Path(__file__).parent.parent.parent
QUICK = [
    "--batch-size",
    "4",
    "--seq-len",
    "32",
    "--eval-every",
    "8",
    "--save-every",
    "5",
    "--threads",
    "1",
]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with arch.json and texts/, and the working folder."""
    monkeypatch.chdir(tmp_path)
    blocks = (BlockSpec(32, 2, 2, 64, 2),)
    write_architecture("arch.json", Architecture(blocks=blocks, vocab_size=300, max_seq_len=64))
    (tmp_path / "texts").mkdir()
    for name in ("import", "strings", "yield"):
        (tmp_path / "texts" / (name + ".txt")).write_text(topics[name], encoding="utf-8")
    return tmp_path


def train(*more, steps=12, corpus="texts"):
    words = ["train", "arch.json", "--corpus", corpus, "--steps", str(steps), "-o", "out"]
    return main(words + QUICK + list(more))


def test_it_prints_a_card_and_then_finds_itself_up_to_date(home, capsys):
    assert train() == 0
    out, err = capsys.readouterr()
    assert "held-out bits per byte" in out
    assert "train: done" in err
    assert train() == 0
    assert "up to date, nothing to do" in capsys.readouterr().err


def test_json_is_all_that_stdout_holds_and_quiet_says_nothing_else(home, capsys):
    assert train("--json", "--quiet") == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert facts["checkpoint"] == "out"
    assert facts["up_to_date"] is False
    assert 0 < facts["val_bits_per_byte"] < 8
    assert err == ""


def test_vocab_size_gives_the_architecture_another_vocabulary(home, capsys):
    assert train("--vocab-size", "280", "--json") == 0
    capsys.readouterr()
    info = json.loads((home / "out" / "checkpoint.json").read_text())
    assert info["architecture"]["vocab_size"] == 280


def test_a_given_tokenizer_must_have_the_architectures_size(home, capsys):
    assert train("--vocab-size", "280") == 0
    capsys.readouterr()
    code = main(
        ["train", "arch.json", "--corpus", "texts", "-o", "other", "--steps", "2"]
        + ["--tokenizer", "out/tokenizer.json"]
    )
    assert code == 2
    err = capsys.readouterr().err
    assert "the tokenizer has 280 tokens, the architecture 300 rows" in err
    assert not (home / "other").exists()


def test_tokens_a_teacher_passes_and_half_precision_are_options(home, capsys):
    assert train("--json", steps=2) == 0
    from merino_edge.training.corpus import read_documents, summarise
    from merino_edge.training.shards import sha256_of_text, write_tokens
    from merino_edge.training.tokenizer import parse_tokenizer

    text = (home / "out" / "tokenizer.json").read_text(encoding="utf-8")
    checksums = (summarise(["texts"]).sha256, sha256_of_text(text))
    tokenizer = parse_tokenizer(text, "")
    write_tokens("tokens", read_documents(["texts"]), tokenizer, 0, 0.05, checksums)
    (home / "tokens" / "tokenizer.json").write_text(text, encoding="utf-8")
    words = ["train", "arch.json", "--data", "tokens", "--teacher", "out", "--steps", "4"]
    words += ["--accumulate", "2", "--precision", "bfloat16", "--device", "cpu", "-o", "student"]
    capsys.readouterr()
    assert main([*words, *QUICK, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens_seen"] in (4 * 2 * 4 * 32, 8 * 32)
    run = json.loads((home / "student.run" / "run.json").read_text())
    assert run["config"]["accumulate"] == 2
    assert len(run["teacher"]) == 64
    assert main([*words[:2], *words[4:], *QUICK]) == 2
    assert "--corpus" in capsys.readouterr().err


def test_the_continuing_command_has_all_that_was_said():
    import argparse

    from merino_edge.cli.commands import train as command

    parser = argparse.ArgumentParser()
    command.configure(parser)
    said = ["arch.json", "--data", "tok ens", "--teacher", "t", "--distill-weight", "0.3"]
    said += ["--compile", "--accumulate", "4", "--tensorboard", "tb", "-o", "out"]
    words = command.resuming_command(parser.parse_args(said)).split()
    assert words[:5] == ["merino-edge", "train", "arch.json", "--data", "'tok"]
    for option in ("--teacher", "--distill-weight", "--compile", "--accumulate", "--tensorboard"):
        assert option in words
    assert words[-1] == "--resume"
    assert "--corpus" not in words


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"caf\xe9", 8, "bad.txt: not UTF-8 at byte 3"),
        (b"  \n", 8, "the corpus is empty"),
        (b"to be or not to be\n" * 9, 2, "tokens, vocab_size is 300"),
    ],
    ids=["latin-1", "empty", "too small"],
)
def test_a_bad_corpus_has_one_clear_error_and_leaves_nothing(home, capsys, content, code, words):
    (home / "bad.txt").write_bytes(content)
    assert train(corpus="bad.txt") == code
    out, err = capsys.readouterr()
    assert words in err
    assert "Traceback" not in err
    assert out == ""
    assert not (home / "out").exists()


def start(words, home):
    """The command line as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "merino_edge", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=home,
    )


def saved_step(home, above=0):
    """The step of the saved state, once it is above a number."""
    path, deadline = home / "out.run" / "state.json", time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and json.loads(path.read_text())["step"] > above:
            return json.loads(path.read_text())["step"]
        time.sleep(0.02)
    raise AssertionError("no state was saved within a minute")


def test_ctrl_c_saves_and_says_how_to_continue_and_that_command_continues(home):
    words = ["train", "arch.json", "--corpus", "texts", "--steps", "100000", "-o", "out", *QUICK]
    process = start(words, home)
    saved_step(home)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    stopped_at = saved_step(home)
    assert f"stopped by SIGINT after step {stopped_at} of 100000" in err
    assert not (home / "out").exists()
    hint = next(line for line in err.splitlines() if line.startswith("hint: continue with: "))
    again = start(hint.split("merino-edge ")[1].split(), home)
    saved_step(home, above=stopped_at)
    again.terminate()
    _, err = again.communicate(timeout=60)
    assert again.returncode == 130
    assert "stopped by SIGTERM" in err


def test_resume_with_another_setting_is_a_usage_error_that_names_it(home, capsys):
    def press(*_):
        """Ctrl-C from a timer of this very process, as soon as there is a state to resume."""
        if (home / "out.run" / "state.json").exists():
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.raise_signal(signal.SIGINT)

    earlier = signal.signal(signal.SIGALRM, press)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        assert train(steps=4000) == 130
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
    capsys.readouterr()
    assert train("--resume", "--seed", "5", steps=4000) == 2
    assert "seed is 5 now, the run in 'out.run' was started with 0" in capsys.readouterr().err
