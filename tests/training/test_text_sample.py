"""The sample is the whole training side where that fits, else the same part of it every time."""

import hashlib

import pytest

from merino_edge.training import batcher
from merino_edge.training.batcher import utf8_length
from merino_edge.training.corpus import Document, summarise
from merino_edge.training.split import split_document
from merino_edge.training.text_sample import sample_training_texts


@pytest.fixture
def documents(monkeypatch):
    monkeypatch.setattr(batcher, "PIECE_CHARS", 100)
    texts = [f"{number} sheep graze on the hill " * 30 for number in range(200)]
    return [Document("", t, hashlib.sha256(t.encode()).hexdigest(), n) for n, t in enumerate(texts)]


def test_a_corpus_that_fits_is_taken_whole_without_the_held_out_side(documents):
    sample = sample_training_texts(documents, 0.2, 10**9)
    assert "".join(sample.texts) == "".join(split_document(d, 0.2)[0] for d in documents)


def test_a_larger_one_gives_its_share_from_all_over_and_the_same_one_every_time(documents):
    sample = sample_training_texts(documents, 0.2, 20_000)
    assert 8_000 < sum(map(utf8_length, sample.texts)) <= 20_000
    assert sample == sample_training_texts(iter(documents), 0.2, 20_000)
    training = "".join(split_document(d, 0.2)[0] for d in documents)
    places = [training.index(piece) / len(training) for piece in sample.texts]
    assert min(places) < 0.1
    assert max(places) > 0.9


def test_it_knows_the_corpus(tmp_path, documents):
    import json

    lines = (json.dumps({"text": d.text}) + "\n" for d in documents)
    (tmp_path / "a.jsonl").write_text("".join(lines))
    sample = sample_training_texts(documents, 0.2, 1000)
    assert sample.corpus_sha256 == summarise([str(tmp_path)]).sha256
