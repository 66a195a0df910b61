"""A line that is not what it should be is named by its number, and says what it is instead."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merino_edge.errors import FormatError
from merino_edge.training.corpus import read_documents
from merino_edge.training.json_lines import read_records

TEXTS = st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(texts=TEXTS, ascii_only=st.booleans())
def test_what_was_written_is_read_with_its_line(tmp_path, texts, ascii_only):
    path = tmp_path / "a.jsonl"
    lines = (json.dumps({"text": text, "meta": {}}, ensure_ascii=ascii_only) for text in texts)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    assert list(read_records(str(path), "text")) == list(enumerate(texts, 1))


def test_another_field_blank_lines_and_a_last_line_without_an_end(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"body": "one"}\r\n\n{"body": "two"}')
    assert list(read_records(str(path), "body")) == [(1, "one"), (3, "two")]


@pytest.mark.parametrize(
    ("line", "message", "note"),
    [
        (b"{'text': 1}", "not JSON: Expecting property name", "it begins with"),
        (b'{"text": "cut', "not JSON: Invalid control character", "it begins with"),
        (b"[" * 100_000, "not JSON: maximum recursion", "it begins with"),
        (b'["text"]', "a JSON list, expected an object with the field 'text'", None),
        (b'{"body": "x", "id": 1}', "there is no field 'text'", "its fields are: body, id."),
        (b'{"text": null}', "'text' is a NoneType, not a text", "its fields are: text."),
        (b'{"text": "caf\xe9"}', r"not UTF-8 at byte 31 \(0xe9\)", None),
    ],
)
def test_a_bad_line_is_told(tmp_path, line, message, note):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"text": "good"}\n\n' + line + b"\n")
    with pytest.raises(FormatError, match=r"bad\.jsonl: line 3: " + message) as raised:
        list(read_records(str(path), "text"))
    assert (raised.value.note or "").startswith(note or "")


def test_half_of_a_surrogate_pair_is_told(tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"text": "a\\ud800b"}\n')
    with pytest.raises(FormatError, match="line 1: character 1 is half of a surrogate pair"):
        list(read_documents([str(tmp_path)]))
