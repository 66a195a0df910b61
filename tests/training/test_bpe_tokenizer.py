"""The trained tokenizer loses no byte, is the same every time, and has the size asked for."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merino_edge.errors import FormatError, SpecError
from merino_edge.training.corpus import read_documents
from merino_edge.training.tokenizer import (
    END_OF_TEXT,
    end_of_text_id,
    parse_tokenizer,
    read_tokenizer,
    train_bpe,
)


@pytest.fixture(scope="module")
def trained(texts):
    return train_bpe((d.text for d in read_documents([str(texts)])), 400)


def test_it_has_exactly_the_size_asked_for_and_ends_texts_with_id_0(trained):
    tokenizer = parse_tokenizer(trained, "")
    assert tokenizer.get_vocab_size() == 400
    assert end_of_text_id(tokenizer, "") == tokenizer.token_to_id(END_OF_TEXT) == 0


def test_training_twice_gives_the_same_file(texts, trained):
    assert train_bpe((d.text for d in read_documents([str(texts)])), 400) == trained


def test_merges_are_strings_as_the_oldest_reader_wants_them(trained):
    assert all(isinstance(merge, str) for merge in json.loads(trained)["model"]["merges"])


@settings(max_examples=50)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_from_its_tokens(trained, text):
    tokenizer = parse_tokenizer(trained, "")
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_a_corpus_too_small_for_the_vocabulary_is_told_with_both_numbers():
    with pytest.raises(SpecError, match="gives 281 tokens, vocab_size is 5000") as raised:
        train_bpe(["to be or not to be, that is the question\n" * 3], 5000)
    assert raised.value.hint.endswith("--vocab-size 281.")


def test_a_vocabulary_smaller_than_the_bytes_is_refused():
    with pytest.raises(SpecError, match="vocab_size is 256, must be at least 257"):
        train_bpe(["text"], 256)


def test_a_given_tokenizer_of_another_size_is_refused_with_both_numbers(tmp_path, trained):
    path = tmp_path / "tokenizer.json"
    path.write_text(trained, encoding="utf-8")
    assert read_tokenizer(str(path), 400) == trained
    with pytest.raises(SpecError, match="tokenizer has 400 tokens, the architecture 512 rows"):
        read_tokenizer(str(path), 512)


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(FormatError):
        read_tokenizer(str(path), 400)
