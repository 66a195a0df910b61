"""Shards: what training may see and what is held out, on disk."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino_edge.errors import FormatError, SpecError
from merino_edge.training.corpus import Document, read_documents, summarise
from merino_edge.training.shards import open_tokens, split_document, write_tokens
from merino_edge.training.tokenizer import parse_tokenizer, train_bpe


def document(text):
    return Document("a.txt", text, "80" + "0" * 62)


@pytest.fixture(scope="module")
def tokenizer(texts):
    return parse_tokenizer(train_bpe((d.text for d in read_documents([str(texts)])), 300), "")


def write(path, texts, tokenizer, **changes):
    return write_tokens(
        str(path), read_documents([str(texts)]), tokenizer, 0, 0.1, (None, "t"), **changes
    )


@given(text=st.text(alphabet="ab \n", min_size=1), fraction=st.floats(0.01, 0.5))
def test_a_split_loses_nothing_and_holds_out_the_end(text, fraction):
    train, val = split_document(document(text), fraction)
    assert train + val == text


def test_a_document_is_cut_at_the_end_of_a_line():
    train, val = split_document(document("one line\n" * 100), 0.1)
    assert (len(train), len(val)) == (90 * 9, 10 * 9)


def test_a_document_of_one_word_goes_to_one_side_by_its_checksum():
    assert split_document(document("merino"), 0.1) == ("merino", "")
    assert split_document(Document("", "merino", "0" * 64), 0.1) == ("", "merino")


def test_the_training_stream_is_the_training_side_and_the_held_out_one_loses_only_overlap(
    tmp_path, texts, tokenizer
):
    data = write(tmp_path / "tokens", texts, tokenizer)
    sides = [split_document(d, 0.1) for d in read_documents([str(texts)])]
    decoded = tokenizer.decode(data.train[:].tolist(), skip_special_tokens=False)
    assert decoded == "".join(train + "<|endoftext|>" for train, _ in sides)
    overlap = data.manifest.overlap
    held_out = "".join(val for _, val in sides)
    left = tokenizer.decode(data.val[:].tolist(), skip_special_tokens=False)
    passages = left.removesuffix("<|endoftext|>").split("<|endoftext|>")
    assert all(passage in held_out for passage in passages)
    assert overlap.dropped_bytes > 0  # the manual says some things twice
    assert data.manifest.val_bytes == len(held_out.encode()) - overlap.dropped_bytes
    assert data.manifest.val_bytes == sum(len(passage.encode()) for passage in passages)
    assert data.val_tokens_per_byte == len(data.val) / data.manifest.val_bytes


def test_small_shards_hold_the_same_stream_as_one_large(tmp_path, texts, tokenizer):
    one = write(tmp_path / "one", texts, tokenizer)
    many = write(tmp_path / "many", texts, tokenizer, part_bytes=4000)
    assert len(many.manifest.train) == 5
    assert np.array_equal(one.train[:], many.train[:])
    assert np.array_equal(one.train[990:1020], many.train[990:1020])


def test_opening_again_gives_the_same_and_a_cut_shard_is_refused(tmp_path, texts, tokenizer):
    written = write(tmp_path / "tokens", texts, tokenizer)
    assert np.array_equal(open_tokens(str(tmp_path / "tokens")).val[:], written.val[:])
    shard = tmp_path / "tokens" / "train-0000.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(FormatError, match=r"train-0000.bin: \d+ bytes, expected"):
        open_tokens(str(tmp_path / "tokens"))


def test_nothing_is_left_when_a_document_is_bad(tmp_path, texts, tokenizer):
    def documents():
        yield from read_documents([str(texts)])
        raise FormatError("not UTF-8")

    with pytest.raises(FormatError):
        write_tokens(str(tmp_path / "tokens"), documents(), tokenizer, 0, 0.1, (None, "t"))
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_with_nothing_to_hold_out_is_refused(tmp_path, tokenizer):
    with pytest.raises(SpecError, match="the val part of the corpus is empty"):
        write_tokens(str(tmp_path / "x"), [document("merino")], tokenizer, 0, 0.1, (None, "t"))


def test_the_manifest_says_what_it_is_of(tmp_path, texts, tokenizer):
    write(tmp_path / "tokens", texts, tokenizer)
    manifest = json.loads((tmp_path / "tokens" / "tokens.json").read_text())
    assert manifest["schema"] == "merino-edge.tokens/1"
    assert (manifest["corpus_sha256"], manifest["tokenizer_sha256"]) == (
        summarise([str(texts)]).sha256,
        "t",
    )
    assert manifest["dtype"] == "uint16"
