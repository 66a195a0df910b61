"""Any number of workers gives the same ids in the same order, and a killed one is told."""

import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
from pydoc_data.topics import topics

import numpy as np
import pytest

from merino_edge.errors import MerinoError
from merino_edge.training.batcher import Batch, Piece
from merino_edge.training.encoding import encoded
from merino_edge.training.tokenizer import parse_tokenizer, train_bpe

ROOT = pathlib.Path(__file__).parent.parent.parent
TEXT = topics["strings"]


@pytest.fixture(scope="module")
def tokenizer_json():
    return train_bpe([TEXT], 300)


def batches(n, begun=None):
    for index in range(n):
        if begun is not None:
            begun.append(index)
        text = TEXT[index * 50 : index * 50 + 400]
        pieces = [Piece(0, text, False), Piece(1, text[::-1], True), Piece(0, text, True)]
        yield Batch(pieces, (1, 1), (800, 400), index, None)


def test_two_workers_give_what_one_gives_and_that_is_what_the_tokenizer_says(tokenizer_json):
    one = list(encoded(batches(20), tokenizer_json, 0, "uint16", 1))
    two = list(encoded(batches(20), tokenizer_json, 0, "uint16", 2))
    assert [batch for batch, _ in one] == [batch for batch, _ in two] == list(batches(20))
    assert all(
        np.array_equal(a, b)
        for (_, x), (_, y) in zip(one, two, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    tokenizer = parse_tokenizer(tokenizer_json, "")
    text = TEXT[:400]
    train, val = one[0][1]
    assert train.tolist() == 2 * tokenizer.encode(text).ids + [0]
    assert val.tolist() == [*tokenizer.encode(text[::-1]).ids, 0]
    assert train.dtype == np.uint16


def test_the_reader_waits_for_the_workers_and_a_killed_worker_is_told(tokenizer_json):
    begun = []
    results = encoded(batches(1000, begun), tokenizer_json, 0, "uint16", 2)
    next(results)
    assert len(begun) <= 6  # three batches a worker are on their way
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(MerinoError, match="a worker that tokenises ended too early"):
        list(results)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_script_that_cannot_be_imported_again_is_told_and_does_not_hang(tmp_path):
    """Workers import the script that asked for them; without a guard it would ask again."""
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from merino_edge.training.batcher import Batch, Piece\n"
        "from merino_edge.training.encoding import encoded\n"
        "from merino_edge.training.tokenizer import train_bpe\n"
        "from pydoc_data.topics import topics\n"
        "text = ' '.join(topics.values())\n"
        "batch = Batch([Piece(0, 'text', True)], (1, 0), (4, 0), 1, None)\n"
        "list(encoded([batch], train_bpe([text], 3000), 0, 'uint16', 2))\n"
    )
    found = subprocess.run(
        [sys.executable, str(script)],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
    )
    assert found.returncode == 1
    assert b"a worker that tokenises ended too early" in found.stderr
