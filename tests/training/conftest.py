"""Real text that every Python has, a small decoder, and settings that train it in seconds."""

import pathlib
from pydoc_data.topics import topics

import pytest

from merino_edge.formats.architecture import Architecture, BlockSpec

VOCAB_SIZE = 320
TOPICS = ("assignment", "bltin-type-objects", "compound", "import", "numbers", "strings", "yield")


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> pathlib.Path:
    """A folder with seven chapters of Python's own manual, about 60 kB."""
    folder = tmp_path_factory.mktemp("texts")
    for name in TOPICS:
        (folder / f"{name}.txt").write_text(topics[name], encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def architecture() -> Architecture:
    """Two blocks, one of them shared, with a joint between them; 40 k parameters."""
    blocks = (BlockSpec(32, 2, 2, 64, 2), BlockSpec(48, 2, 1, 96, 1))
    return Architecture(blocks=blocks, vocab_size=VOCAB_SIZE, max_seq_len=64)


@pytest.fixture
def settings() -> dict:
    """Fields of a TrainConfig for a run of a second or two."""
    return {
        "n_steps": 20,
        "batch_size": 4,
        "seq_len": 32,
        "warmup_steps": 2,
        "eval_every": 8,
        "eval_tokens": 512,
        "save_every": 5,
        "threads": 1,
    }
