"""The script that measures vocabularies: its figures are right, and its lines are a space's."""

import json
import random
import subprocess
import sys

import pytest
from repository import ROOT
from tokenizers import Tokenizer

from merino_edge.core import space as spaces
from merino_edge.training.tokenizer import train_bpe

EXAMPLE = (ROOT / "benchmarks" / "search" / "space.toml").read_text("utf-8")


def text(seed, n_words):
    """Words with a skewed frequency, so that there is something to merge."""
    rng = random.Random(seed)
    words = ["".join(random.Random(i).choices("aeinrstü", k=3 + i % 6)) for i in range(300)]
    return " ".join(words[int(rng.paretovariate(1.0)) % len(words)] for _ in range(n_words))


def run_script(folder, *options):
    (folder / "train.txt").write_text(text(1, 20_000), "utf-8")
    (folder / "other.txt").write_text(text(2, 2_000), "utf-8")
    command = [sys.executable, str(ROOT / "benchmarks" / "search" / "vocabulary.py")]
    command += ["--train", "train.txt", "--measure", "other.txt", *options]
    return subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )


def test_the_lines_are_a_choice_of_vocabularies_with_the_measured_figures(tmp_path):
    done = run_script(tmp_path, "--sizes", "300", "400", "-o", "found.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    start, end = EXAMPLE.index("vocabularies = ["), EXAMPLE.index("]\n", EXAMPLE.index("size ="))
    (tmp_path / "space.toml").write_text(
        (EXAMPLE[:start] + done.stdout + EXAMPLE[end + 2 :]).replace("= 8192", "= 300")
    )
    space = spaces.from_file(str(tmp_path / "space.toml"))
    assert [list(pair.values()) for pair in found["vocabularies"]] == [
        *map(list, space.vocabularies)
    ]

    measured = (tmp_path / "other.txt").read_text("utf-8")
    for size, bytes_per_token in space.vocabularies:
        tokenizer = Tokenizer.from_str(train_bpe([text(1, 20_000)], size))
        n_tokens = len(tokenizer.encode(measured).ids)
        assert bytes_per_token * n_tokens == pytest.approx(found["measured"]["n_bytes"], rel=1e-4)


def test_a_text_too_short_for_a_size_ends_with_a_sentence(tmp_path):
    done = run_script(tmp_path, "--sizes", "300", "99999", "-o", "found.json")
    assert done.returncode == 2
    assert "vocab_size is 99999" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "found.json").exists()
