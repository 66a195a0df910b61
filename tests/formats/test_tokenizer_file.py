"""What the current tokenizers writes becomes what 0.12.1 reads, or is refused by name."""

import copy
import json

import pytest

from merino_edge.errors import FormatError, UnsupportedError
from merino_edge.formats.tokenizer_file import merged, portable, portable_json


def modern(**changes):
    """Merges as pairs, keys of a newer version, a sequence of post-processors."""
    document = {
        "version": "1.0",
        "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [token("<end>", 4)],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"}]},
        "decoder": {"type": "ByteLevel"},
        "model": {
            "type": "BPE",
            "dropout": None,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {"a": 0, "b": 1, "ab": 2, "aba": 3, "<end>": 4},
            "merges": [["a", "b"], ["ab", "a"]],
        },
    }
    document.update(changes)
    return document


def token(content, number, special=True, **flags):
    return {"id": number, "content": content, "special": special, **flags}


def model(**changes):
    return {**modern()["model"], **changes}


def test_newer_words_become_older_ones():
    result = portable(modern())
    assert result["model"]["merges"] == ["a b", "ab a"]
    assert not {"byte_fallback", "ignore_merges"} & set(result["model"])
    assert result["post_processor"] is None
    assert result["truncation"] is None  # it would cut prompts in silence


def test_a_portable_document_stays_as_it_is():
    once = portable_json(json.dumps(modern()))
    assert portable_json(once) == once


def test_the_given_document_is_not_changed():
    document = modern()
    before = copy.deepcopy(document)
    portable(document)
    assert document == before


def test_one_template_in_a_sequence_is_kept():
    template = {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}
    sequence = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]}
    assert portable(modern(post_processor=sequence))["post_processor"] == template
    sequence["processors"].append(template)
    with pytest.raises(UnsupportedError, match="2 templates"):
        portable(modern(post_processor=sequence))


def test_an_added_token_that_is_not_special_leaves_the_vocabulary():
    # Version 0.12.1 overlooks it otherwise: it would be spelled out from smaller tokens.
    result = portable(modern(added_tokens=[token("<end>", 4, special=False)]))
    assert "<end>" not in result["model"]["vocab"]
    assert result["added_tokens"][0]["id"] == len(result["model"]["vocab"])


@pytest.mark.parametrize(
    "added", [[token("<x>", 9)], [token("ab", 1)], [token("aba", 3, special=False)]]
)
def test_ids_that_the_old_reader_would_number_otherwise_are_refused(added):
    document = modern(added_tokens=added, model=model(merges=[["a", "b"]]))
    with pytest.raises(UnsupportedError, match=r"has id \d"):
        portable(document)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": model(byte_fallback=True)}, "model.byte_fallback"),
        ({"model": model(dropout=0.1)}, "model.dropout"),
        ({"model": model(new_option=3)}, "model.new_option"),
        ({"model": {"type": "Unigram", "vocab": []}}, "Unigram"),
        ({"normalizer": {"type": "Prepend", "prepend": "_"}}, "Prepend"),
        ({"pre_tokenizer": {"type": "FixedLength", "length": 5}}, "FixedLength"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Xy"}]}}, "Xy"),
        ({"decoder": {"type": "Sequence", "decoders": []}}, "Sequence"),
        ({"added_tokens": [token("<end>", 4, later_flag=True)]}, "added_tokens.later_flag"),
        ({"something": {"on": 1}}, "something"),
    ],
)
def test_what_the_old_reader_cannot_say_is_refused_by_name(changes, named):
    with pytest.raises(UnsupportedError, match=named):
        portable(modern(**changes))


def test_ignore_merges_is_dropped_only_where_it_changes_nothing():
    assert portable(modern(model=model(ignore_merges=True)))["model"]["merges"]
    with pytest.raises(UnsupportedError, match="never give the token 'aba'"):
        portable(modern(model=model(ignore_merges=True, merges=[["a", "b"]])))


def test_merging_takes_the_lowest_rank_first():
    ranks = {("b", "c"): 0, ("a", "b"): 1, ("a", "bc"): 2}
    assert merged("abc", ranks) == ["abc"]
    assert merged("abab", ranks) == ["ab", "ab"]
    assert merged("x", ranks) == ["x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected dict"),
        ('{"model": 3}', "model: expected dict"),
        (json.dumps(modern(model=model(merges=["a b c"]))), "not a pair"),
        (json.dumps(modern(model=model(merges=[["a", "z"]]))), "the vocabulary lacks"),
        (json.dumps(modern(model=model(vocab={"a": 0, "b": 0}, merges=[]))), "the same id"),
        (json.dumps(modern(model=model(vocab={"a": "0"}, merges=[]))), "whole numbers"),
        (json.dumps(modern(added_tokens=[{"id": True, "content": "a"}])), "added_tokens.id"),
        (
            json.dumps(modern(post_processor={"type": "Sequence", "processors": [3]})),
            "expected dict",
        ),
        (json.dumps(modern(pre_tokenizer={"type": ["x"]})), "expected str"),
    ],
)
def test_a_damaged_document_is_a_format_error_with_the_path(text, message):
    with pytest.raises(FormatError, match=message) as caught:
        portable_json(text, "some/tokenizer.json")
    assert "some/tokenizer.json" in str(caught.value)
