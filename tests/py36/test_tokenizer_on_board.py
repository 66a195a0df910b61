"""A portable tokenizer.json means the same to every version of the tokenizers library.

The golden ids were given by a current version; under Python 3.6 this runs on 0.12.1.
"""

import json
import os

import pytest

from merino_edge.formats.tokenizer_file import portable, portable_json

tokenizers = pytest.importorskip("tokenizers")

PATH = os.path.join(os.path.dirname(__file__), "..", "golden", "tokenizers.json")
RULES = ("gpt-2", "smollm", "llama-bpe")


@pytest.fixture(scope="module")
def golden():
    with open(PATH, encoding="ascii") as stream:
        return json.load(stream)


@pytest.mark.parametrize("rule", RULES)
def test_every_version_gives_the_same_ids_and_the_text_back(golden, rule):
    case = golden["cases"][rule]
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(case["document"]))
    for text, ids in zip(golden["texts"], case["ids"]):
        assert tokenizer.encode(text).ids == ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("rule", RULES)
def test_a_portable_document_is_left_alone(golden, rule):
    document = golden["cases"][rule]["document"]
    assert portable(document) == document


def test_what_this_version_saves_can_be_made_portable(golden):
    text = json.dumps(golden["cases"]["smollm"]["document"])
    saved = tokenizers.Tokenizer.from_str(text).to_str()
    assert json.loads(portable_json(saved)) == json.loads(text)
