"""Pieces join to their text and give its tokens; where a part ends follows from the texts alone."""

import hashlib
from pydoc_data.topics import topics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino_edge.training import batcher
from merino_edge.training.batcher import Batcher, pieces_of, utf8_length
from merino_edge.training.corpus import Document, summarise
from merino_edge.training.tokenizer import parse_tokenizer, train_bpe

CHAPTERS = [topics[name] for name in ("import", "strings", "compound", "numbers")]


def records(texts):
    return [
        Document("a.jsonl", text, hashlib.sha256(text.encode()).hexdigest(), line)
        for line, text in enumerate(texts, 1)
    ]


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(batcher, "PIECE_CHARS", 200)
    monkeypatch.setattr(batcher, "BATCH_CHARS", 1000)


@given(text=st.text(alphabet="ab \n\u4e2d", min_size=1, max_size=300))
def test_pieces_join_to_the_text_and_none_is_long(text):
    before, batcher.PIECE_CHARS = batcher.PIECE_CHARS, 20
    try:
        pieces = list(pieces_of(text))
    finally:
        batcher.PIECE_CHARS = before
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= 40 for piece in pieces)


def test_the_tokens_of_pieces_are_those_of_the_whole_text(small_pieces):
    tokenizer = parse_tokenizer(train_bpe(CHAPTERS, 500), "")
    for text in CHAPTERS:
        pieces = list(pieces_of(text))
        assert len(pieces) > 1
        ids = [number for piece in pieces for number in tokenizer.encode(piece).ids]
        assert ids == tokenizer.encode(text).ids


def test_a_tokenizer_trained_on_pieces_is_that_of_the_whole_texts(small_pieces):
    pieces = [piece for text in CHAPTERS for piece in pieces_of(text)]
    assert train_bpe(pieces, 500) == train_bpe(CHAPTERS, 500)


def test_batches_hold_every_text_once_and_the_last_knows_the_corpus(tmp_path, small_pieces):
    for index, text in enumerate(CHAPTERS):
        (tmp_path / f"{index}.txt").write_text(text)
    documents = records(CHAPTERS)
    batches = list(Batcher(0.5, 20_000, lambda part: False).batches(documents))
    texts, rest = {0: [], 1: []}, {0: "", 1: ""}
    for piece in (piece for batch in batches for piece in batch.pieces):
        rest[piece.side] += piece.text
        if piece.ends_text:
            texts[piece.side].append(rest[piece.side])
            rest[piece.side] = ""
    assert sorted(texts[0] + texts[1]) == sorted(CHAPTERS)
    assert sum(sum(batch.n_texts) for batch in batches) == len(CHAPTERS)
    assert sum(sum(batch.n_bytes) for batch in batches) == sum(map(utf8_length, CHAPTERS))
    assert batches[-1].end.corpus_sha256 == summarise([str(tmp_path)]).sha256
    assert batches[-1].end.n_documents == len(CHAPTERS)


def test_a_part_ends_with_the_document_that_fills_it_and_complete_ones_have_no_pieces(small_pieces):
    documents = records(CHAPTERS)
    whole = [b for b in Batcher(0.5, 1, lambda part: False).batches(documents) if b.end]
    assert [batch.end.part for batch in whole] == [0, 1, 2, 3]
    some = list(Batcher(0.5, 1, {1, 2}.__contains__).batches(documents))
    assert [batch.end for batch in some if batch.end] == [batch.end for batch in whole]
    filled = {batch.n_documents for batch in some if batch.pieces}
    assert filled == {1, 4}
