"""JSONL: a document a line, its text in one field.

The one idea: a line is read, judged and forgotten before the next, and a line that is not what it
should be is named by its number, because nobody finds it by eye in 50 GB.
"""

import json
from collections.abc import Iterator
from typing import Any

from merino_edge.errors import FormatError
from merino_edge.training.text_files import Line, decoded, read_lines

_BOM = b"\xef\xbb\xbf"
_SHOWN_FIELDS = 8


def read_records(path: str, text_field: str) -> Iterator[tuple[int, str]]:
    """(line number, text) of every line that is not blank.

    Raises:
        FormatError: A line is not UTF-8, not JSON, no object, lacks the field or holds something
            else than text there; or the archive is damaged.
    """
    for line in read_lines(path):
        data = line.data.removeprefix(_BOM) if line.number == 1 else line.data
        if data.strip():
            yield line.number, _text_of(line._replace(data=data), path, text_field)


def _text_of(line: Line, path: str, text_field: str) -> str:
    where = f"line {line.number}"
    text = decoded(line.data, path, line.offset, where)
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"not JSON: {error}.", path, where, note=f"it begins with {_beginning(line.data)}."
        ) from error
    return _field_of(record, path, where, text_field)


def _field_of(record: Any, path: str, where: str, text_field: str) -> str:
    if not isinstance(record, dict):
        raise FormatError(
            f"a JSON {type(record).__name__}, expected an object with the field '{text_field}'.",
            path,
            where,
        )
    text = record.get(text_field)
    if not isinstance(text, str):
        there = text_field in record
        shown = ", ".join(list(record)[:_SHOWN_FIELDS]) or "none"
        raise FormatError(
            f"'{text_field}' is a {type(text).__name__}, not a text."
            if there
            else f"there is no field '{text_field}'.",
            path,
            where,
            note=f"its fields are: {shown}.",
            hint="name the field that holds the text with --text-field.",
        )
    return text


def _beginning(data: bytes) -> str:
    return repr(data[:40].decode("utf-8", "replace"))
