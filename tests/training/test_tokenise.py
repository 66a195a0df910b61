"""One call gives the same folder however often it was killed and however many worked on it."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from pydoc_data.topics import topics

import pytest

from merino_edge.errors import ChecksumError, FormatError, MerinoError, SpecError, UsageError
from merino_edge.training.tokenise import TokenisingConfig, tokenise

ROOT = pathlib.Path(__file__).parent.parent.parent
CONFIG = TokenisingConfig(val_fraction=0.1, part_bytes=30_000)
VOCAB_SIZE = 400


@pytest.fixture
def corpus(tmp_path):
    """Paragraphs of Python's manual as records, and two chapters as files; about 250 kB."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    chapters = ("specialnames", "compound", "types", "assert", "class", "typesseq", "debugger")
    paragraphs = [p for name in chapters for p in topics[name].split("\n\n") if len(p) > 60]
    lines = [json.dumps({"text": paragraph}) + "\n" for paragraph in paragraphs]
    (folder / "a.jsonl").write_text("".join(lines[::2]))
    (folder / "b.jsonl").write_text("".join(lines[1::2]))
    for name in ("import", "strings"):
        (folder / (name + ".txt")).write_text(topics[name], encoding="utf-8")
    return folder


def contents(folder):
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def make(corpus, output, **changes):
    return tokenise([str(corpus)], str(output), VOCAB_SIZE, CONFIG._replace(**changes))


def test_any_number_of_workers_gives_the_same_files(corpus, tmp_path):
    data = make(corpus, tmp_path / "one")
    make(corpus, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(data.manifest.train) > 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "one", "two"]


SCRIPT = """
import multiprocessing, os, signal, sys
from merino_edge.training.tokenise import TokenisingConfig, tokenise
def tell(progress):
    if progress.phase == sys.argv[3] and progress.n_documents >= int(sys.argv[4]):
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
config = TokenisingConfig(val_fraction=0.1, part_bytes=30_000, workers=2)
tokenise([sys.argv[1]], sys.argv[2], 400, config, on_progress=tell)
"""


@pytest.mark.parametrize(
    ("phase", "n_documents"),
    [("tokens", 250), pytest.param("overlap", 0, marks=pytest.mark.slow)],
    ids=["midway", "at the end"],
)
def test_after_a_sigkill_complete_shards_are_kept_and_the_folder_is_the_same(
    corpus, tmp_path, phase, n_documents
):
    make(corpus, tmp_path / "whole")
    output = tmp_path / "cut"
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(corpus), str(output), phase, str(n_documents)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    assert_gone(killed.stdout)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cut.part").glob("train-*.bin")}
    moments = []
    tokenise([str(corpus)], str(output), VOCAB_SIZE, CONFIG, on_progress=moments.append)
    assert {moment.phase for moment in moments} == {"tokens", "overlap"}  # no tokenizer again
    n_kept = next(moment.n_kept_shards for moment in moments)
    kept = [f"train-{index:04d}.bin" for index in range(n_kept)]
    assert n_kept >= 2
    assert all((output / name).stat().st_mtime_ns == before[name] for name in kept)
    assert contents(output) == contents(tmp_path / "whole")


def assert_gone(pids):
    """Workers end with the process that they work for."""
    deadline = time.monotonic() + 10
    for pid in map(int, pids.split()):
        while pathlib.Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not pathlib.Path(f"/proc/{pid}").exists()


def interrupt(corpus, output, n_documents=250, **options):
    def press(progress):
        if progress.phase == "tokens" and progress.n_documents >= n_documents:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenise([str(corpus)], str(output), VOCAB_SIZE, CONFIG, on_progress=press, **options)


def test_a_shard_that_was_edited_meanwhile_is_made_again(corpus, tmp_path):
    make(corpus, tmp_path / "whole")
    interrupt(corpus, tmp_path / "cut")
    shard = tmp_path / "cut.part" / "train-0001.bin"
    shard.write_bytes(bytes(len(shard.read_bytes())))
    make(corpus, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_corpus_that_changed_meanwhile_is_told_and_force_begins_again(corpus, tmp_path):
    interrupt(corpus, tmp_path / "cut")
    lines = (corpus / "a.jsonl").read_text().splitlines(keepends=True)
    (corpus / "a.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(ChecksumError, match="the corpus changed within its first") as raised:
        make(corpus, tmp_path / "cut")
    assert "--force" in raised.value.hint
    tokenise([str(corpus)], str(tmp_path / "cut"), VOCAB_SIZE, CONFIG, force=True)
    make(corpus, tmp_path / "whole")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_unfinished_work_with_another_tokenizer_is_refused_without_force(corpus, tmp_path):
    interrupt(corpus, tmp_path / "cut")
    with pytest.raises(UsageError, match="unfinished work with another tokenizer or split"):
        tokenise([str(corpus)], str(tmp_path / "cut"), 300, CONFIG)
    data = tokenise([str(corpus)], str(tmp_path / "cut"), 300, CONFIG, force=True)
    assert data.manifest.vocab_size == 300


def test_a_finished_folder_is_not_replaced_without_force(corpus, tmp_path):
    make(corpus, tmp_path / "out")
    with pytest.raises(UsageError, match="exists already"):
        make(corpus, tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious").write_text("x")
    with pytest.raises(UsageError, match=r"has no tokens\.json in it"):
        tokenise([str(corpus)], str(tmp_path / "other"), VOCAB_SIZE, CONFIG, force=True)


def test_a_tokenizer_that_another_folder_holds_can_be_given(corpus, tmp_path):
    make(corpus, tmp_path / "out")
    file = tmp_path / "out" / "tokenizer.json"
    tokenise([str(corpus)], str(tmp_path / "again"), str(file), CONFIG)
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_a_vocabulary_with_a_gap_is_refused(corpus, tmp_path):
    make(corpus, tmp_path / "out")
    document = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    last = max(document["model"]["vocab"], key=document["model"]["vocab"].get)
    document["model"]["vocab"][last] = 9999
    (tmp_path / "gap.json").write_text(json.dumps(document))
    with pytest.raises(FormatError, match="highest id is 9999, it has 400 tokens"):
        tokenise([str(corpus)], str(tmp_path / "x"), str(tmp_path / "gap.json"), CONFIG)


def test_a_bad_line_late_in_the_corpus_keeps_what_is_complete(corpus, tmp_path):
    (corpus / "c.jsonl").write_text('{"text": "fine"}\n{"text": \n')
    tokenizer = trained(tmp_path, corpus)
    with pytest.raises(FormatError, match=r"c\.jsonl: line 2: not JSON"):
        tokenise([str(corpus)], str(tmp_path / "out"), tokenizer, CONFIG)
    (corpus / "c.jsonl").write_text('{"text": "fine"}\n')
    moments = []
    tokenise([str(corpus)], str(tmp_path / "out"), tokenizer, CONFIG, on_progress=moments.append)
    assert moments[0].n_kept_shards >= 4


def trained(tmp_path, corpus):
    """A tokenizer of the corpus's good files."""
    tokenise([str(corpus / "a.jsonl")], str(tmp_path / "t"), VOCAB_SIZE, CONFIG)
    return str(tmp_path / "t" / "tokenizer.json")


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ([" ", "\n"], MerinoError, "the corpus is empty"),
        (["one"], SpecError, "the (val|train) part of the corpus is empty"),
        (["one two three four five " * 40] * 5, SpecError, "(val|train) part of the corpus"),
        ([], UsageError, "names no text"),
    ],
)
def test_a_corpus_without_two_sides_is_told_and_leaves_nothing(
    corpus, tmp_path, texts, error, message
):
    tokenizer = trained(tmp_path, corpus)
    few = tmp_path / "few"
    few.mkdir()
    if texts:
        lines = (json.dumps({"text": text}) + "\n" for text in texts)
        (few / "few.jsonl").write_text("".join(lines))
    with pytest.raises(error, match=message):
        tokenise([str(few)], str(tmp_path / "out"), tokenizer, CONFIG)
    assert not (tmp_path / "out").exists()


def test_held_out_text_that_training_holds_too_is_refused(corpus, tmp_path):
    tokenizer = trained(tmp_path, corpus)
    (tmp_path / "same.txt").write_text("one two three four five\n" * 400)
    with pytest.raises(SpecError, match="the held-out text stands in the training text"):
        tokenise([str(tmp_path / "same.txt")], str(tmp_path / "out"), tokenizer, CONFIG)
