"""The tokenizer inside a GGUF gives the ids of the tokenizer it was made from."""

import json
import os

import pytest

pytest.importorskip("gguf")

from tiny_gguf import VOCAB, tiny_weights, tokenizer_parts, write_gguf

from merino_edge.errors import FormatError, UnsupportedError
from merino_edge.formats import jsonio
from merino_edge.formats.tokenizer_file import portable_json
from merino_edge.model.importers.gguf_file import open_gguf
from merino_edge.model.importers.gguf_tokenizer import (
    PRE_TOKENIZERS,
    generation_defaults,
    token_text,
    tokenizer_from_gguf,
)

TEXTS = [
    "The sheep sleeps on the hill.",
    "naïve café — 羊は丘で眠る 🐑🏽 Ω≈ç√ \u00a0\u200b\u202e end",
    "def f(x):\n\treturn x ** 2  # two\r\n\n\n\n    indented",
    "1234567 3.14159 ½ ٣ x2y 10,000",
    "   leading, trailing   \n\t \n",
    "We'll, they'd, I'M, don't — it's",
    "<|end|>a<|end|>",
    "",
]


def made(folder, **changes):
    file = open_gguf(write_gguf(folder, **changes))
    return json.loads(tokenizer_from_gguf(file, VOCAB))


def refused(folder, error, message, **changes):
    with pytest.raises(error, match=message):
        made(folder, **changes)


def test_the_ids_are_those_of_the_tokenizer_it_was_made_from(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    document = made(tmp_path)
    given = tokenizers.Tokenizer.from_file(str(tmp_path / "given-tokenizer.json"))
    ours = tokenizers.Tokenizer.from_str(json.dumps(document))
    for text in TEXTS:
        assert ours.encode(text).ids == given.encode(text).ids
        assert ours.decode(ours.encode(text).ids, skip_special_tokens=False) == text


def test_control_tokens_become_special_and_user_tokens_do_not(tmp_path):
    _, merges, types = tokenizer_parts(tmp_path)
    types[-1] = 4
    changes = {"token_type": types, "merges": merges[:-1]}
    document = made(tmp_path, **{f"tokenizer__ggml__{key}": v for key, v in changes.items()})
    added = {token["id"]: token["special"] for token in document["added_tokens"]}
    assert added == {0: True, VOCAB - 1: False}


def test_begin_and_end_tokens_are_read(tmp_path):
    file = open_gguf(
        write_gguf(
            tmp_path,
            tokenizer__ggml__bos_token_id=1,
            tokenizer__ggml__eot_token_id=2,
            tokenizer__ggml__add_bos_token=True,
        )
    )
    defaults = generation_defaults(file)
    assert defaults.eos_token_ids == [0, 2]
    assert defaults.bos_token_id == 1
    assert token_text(file, "eos") == "<|end|>"


def test_the_llama_rule_adds_bos_unless_told_otherwise(tmp_path):
    told = {"tokenizer__ggml__pre": "llama-bpe", "tokenizer__ggml__bos_token_id": 0}
    assert generation_defaults(open_gguf(write_gguf(tmp_path, **told))).bos_token_id == 0
    told["tokenizer__ggml__add_bos_token"] = False
    assert generation_defaults(open_gguf(write_gguf(tmp_path, **told))).bos_token_id is None


def test_the_llama_rule_is_refused_where_merges_do_not_reach_a_token(tmp_path):
    merges = tokenizer_parts(tmp_path)[1]
    made(tmp_path, tokenizer__ggml__pre="llama-bpe")
    refused(
        tmp_path,
        UnsupportedError,
        "ignore_merges",
        tokenizer__ggml__pre="llama-bpe",
        tokenizer__ggml__merges=merges[:-1],
    )


def test_a_rule_that_is_not_in_the_file_is_not_guessed(tmp_path):
    refused(tmp_path, UnsupportedError, "'deepseek-coder'", tokenizer__ggml__pre="deepseek-coder")
    refused(tmp_path, UnsupportedError, r"'\(none\)'", tokenizer__ggml__pre=None)
    refused(tmp_path, UnsupportedError, "kind 'llama'", tokenizer__ggml__model="llama")
    refused(tmp_path, UnsupportedError, "add_space_prefix", tokenizer__ggml__add_space_prefix=True)


def test_parts_that_do_not_fit_each_other_are_refused(tmp_path):
    tokens, merges, types = tokenizer_parts(tmp_path)
    key = "tokenizer__ggml__"
    refused(tmp_path, FormatError, "279 types for 280", **{key + "token_type": types[:-1]})
    refused(tmp_path, FormatError, "token_type", **{key + "token_type": None})
    refused(tmp_path, UnsupportedError, "type 6", **{key + "token_type": [*types[:-1], 6]})
    refused(tmp_path, FormatError, "twice", **{key + "tokens": [*tokens[:-1], tokens[5]]})
    refused(tmp_path, FormatError, "lacks", **{key + "merges": [*merges, "qq qq"]})
    refused(tmp_path, FormatError, "not a pair", **{key + "merges": ["one"]})
    with pytest.raises(FormatError, match="id 999, but there are 280"):
        generation_defaults(open_gguf(write_gguf(tmp_path, **{key + "eos_token_id": 999})))


@pytest.mark.data
def test_smollm2_tokenizer_comes_out_as_its_makers_wrote_it(tmp_path, shared_data):
    with open(f"{shared_data}/tokenizers/smollm2/tokenizer.json", encoding="utf-8") as stream:
        text = stream.read()
    original = json.loads(text)
    vocab = original["model"]["vocab"]
    special = {token["id"] for token in original["added_tokens"]}
    path = write_gguf(
        tmp_path,
        {"token_embd.weight": tiny_weights()["token_embd.weight"]},
        tokenizer__ggml__pre="smollm",
        tokenizer__ggml__tokens=sorted(vocab, key=vocab.get),
        tokenizer__ggml__merges=[" ".join(pair) for pair in original["model"]["merges"]],
        tokenizer__ggml__token_type=[3 if i in special else 1 for i in range(len(vocab))],
    )
    made_text = tokenizer_from_gguf(open_gguf(path), len(vocab))
    assert json.loads(made_text) == json.loads(portable_json(text))


@pytest.mark.parametrize("rule", sorted(PRE_TOKENIZERS))
def test_the_golden_tokenizers_of_the_board_use_our_rules(rule):
    path = os.path.join(os.path.dirname(__file__), "..", "golden", "tokenizers.json")
    golden = jsonio.read_json(path)["cases"]
    assert set(golden) == set(PRE_TOKENIZERS)
    assert golden[rule]["document"]["pre_tokenizer"] == PRE_TOKENIZERS[rule]
