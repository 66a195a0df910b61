# ruff: noqa: UP006, UP035, UP045 -- the typing names are what Python 3.6 code uses
"""A JSON file is exactly what its record says, and a write is seen whole or not at all."""

import json
import os
from typing import Dict, List, NamedTuple, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino_edge.errors import FormatError, SchemaVersionError
from merino_edge.formats import jsonio


class Inner(NamedTuple):
    size: int
    label: Optional[str] = None


class Outer(NamedTuple):
    name: str
    share: float
    parts: List[Inner]
    shape: Tuple[int, ...]
    sizes: Dict[str, int]
    on: bool = True


OUTER = Outer("a", 0.5, [Inner(1), Inner(2, "x")], (3, 4), {"k": 5})
SCHEMA = "merino-edge.test/1"

inner = st.builds(Inner, st.integers(), st.none() | st.text())
outer = st.builds(
    Outer,
    st.text(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(inner),
    st.lists(st.integers()).map(tuple),
    st.dictionaries(st.text(), st.integers()),
    st.booleans(),
)


@given(outer)
def test_what_is_encoded_comes_back(record):
    text = json.dumps(jsonio.encode(record))
    assert jsonio.decode(Outer, json.loads(text)) == record


@given(
    st.sampled_from(Outer._fields),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5),
)
def test_any_value_in_any_field_is_taken_or_a_format_error_never_another(name, value):
    document = dict(jsonio.encode(OUTER), **{name: value})
    try:
        record = jsonio.decode(Outer, document)
    except FormatError as error:
        refused_field = error.field
    else:
        refused_field = None
        assert jsonio.encode(record)[name] == value
    assert refused_field is None or refused_field.startswith(name)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"parts": [{"size": 1}, {"size": "2"}]}, r"parts\[1\]\.size: expected int, found '2'"),
        ({"parts": [{"size": 1, "colour": 2}]}, r"parts\[0\]\.colour: unknown field"),
        ({"parts": [{}]}, r"parts\[0\]\.size: missing field"),
        ({"sizes": {"k": True}}, r"sizes\.k: expected int, found True"),
        ({"on": 1}, "on: expected bool, found 1"),
        ({"name": None}, "name: expected str, found None"),
        ({"shape": {}}, "shape: expected a list"),
    ],
)
def test_a_wrong_field_is_named_with_its_path(tmp_path, change, field):
    path = str(tmp_path / "x.json")
    jsonio.write_record(path, SCHEMA, OUTER)
    document = dict(jsonio.read_json(path), **change)
    (tmp_path / "x.json").write_text(json.dumps(document))

    with pytest.raises(FormatError, match=field) as caught:
        jsonio.read_record(path, SCHEMA, Outer)
    assert caught.value.path == path


def test_another_major_version_is_told_apart_from_another_kind_of_file(tmp_path):
    path = str(tmp_path / "x.json")
    jsonio.write_record(path, "merino-edge.test/2", OUTER)
    with pytest.raises(SchemaVersionError, match=r"merino-edge\.test/2"):
        jsonio.read_record(path, SCHEMA, Outer)

    jsonio.write_record(path, "merino-edge.other/1", OUTER)
    with pytest.raises(FormatError, match=r"expected 'merino-edge\.test/1'") as caught:
        jsonio.read_record(path, SCHEMA, Outer)
    assert not isinstance(caught.value, SchemaVersionError)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"NaN"])
def test_what_is_not_json_is_a_format_error(tmp_path, data):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(FormatError):
        jsonio.read_record(str(tmp_path / "x.json"), SCHEMA, Outer)


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    jsonio.write_bytes_atomic(str(path), b"old")

    def full_disk(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        jsonio.write_bytes_atomic(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.json"]
