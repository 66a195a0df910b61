"""JSON files that know their schema, and typed records read from them.

The one idea: a record is a ``typing.NamedTuple`` (or, on the workstation, a frozen dataclass), and
its annotations are the file format. ``decode`` walks them and refuses anything else, naming the
path and the field; ``encode`` is the way back. A file carries
``"schema": "merino-edge.<name>/<major>"`` as its first key.

Files are written to a sibling and renamed into place, so a reader sees the old file or the new
one, never half of one. This module does not know any particular record.
"""

import json
import os
import re
from typing import Any, Dict, List, Optional, Tuple, Type, TypeVar, Union

from merino_edge.errors import FormatError, SchemaVersionError, SpecError

Record = TypeVar("Record")
MAX_JSON_BYTES = 64 << 20


def write_bytes_atomic(path: str, data: bytes) -> None:
    """Write a file so that no reader ever sees a part of it.

    Raises:
        OSError: The disk is full, or the folder cannot be written; the old file is untouched.
    """
    import tempfile  # not above: who only reads should not wait for what it imports

    folder = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def umask() -> int:
    """Permissions that new files lack; Python can only read it by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def dumps(value: Any) -> str:
    """JSON as we keep it: two spaces, keys in the order of the record, a newline at the end."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def digest(document: Any) -> str:
    """SHA-256 over the canonical JSON of a document: sorted keys, no white space, ASCII."""
    import hashlib  # not above: OpenSSL takes 3 ms to load, and running a bundle needs none

    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def write_record(path: str, schema: str, record: Any) -> None:
    """Write a record with its schema line, atomically."""
    document = {"schema": schema}
    document.update(encode(record))
    write_bytes_atomic(path, dumps(document).encode("utf-8"))


def read_record(path: str, schema: str, record_type: Type[Record]) -> Record:
    """Read a record and check every field.

    Raises:
        FormatError: Not JSON, another schema, an unknown, missing or wrongly typed field.
        SchemaVersionError: The schema is right, its major version is not.
    """
    return record_from(read_json(path), path, schema, record_type)


def record_from(document: Any, path: str, schema: str, record_type: Type[Record]) -> Record:
    """A record from what a file held; as ``read_record``."""
    check_schema(document, schema, path)
    fields = {key: value for key, value in document.items() if key != "schema"}
    record: Record = decode(record_type, fields, path)
    return record


def read_json(path: str) -> Any:
    """Read any JSON file under the size cap.

    Raises:
        FormatError: Missing, too large, not UTF-8, or not JSON.
    """
    return json_from(read_bytes(path, MAX_JSON_BYTES), path)


def json_from(data: bytes, path: str) -> Any:
    """What JSON says that came from ``path``.

    Raises:
        FormatError: Not UTF-8, or not JSON, or a number of thousands of digits, which older Pythons
            would be at for hours.
    """
    if re.search(b"[0-9]{4000}", data):
        raise FormatError("not JSON of ours: a number has thousands of digits.", path)
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError("not JSON: {}.".format(error), path)


def read_bytes(path: str, max_bytes: int) -> bytes:
    """Read a whole file under a size cap.

    Raises:
        FormatError: Missing, no file, or too large.
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read(max_bytes + 1)
    except FileNotFoundError:
        raise FormatError("the file does not exist.", path)
    except (IsADirectoryError, NotADirectoryError):
        raise FormatError("a file was expected here.", path)
    if len(data) > max_bytes:
        raise FormatError("larger than {} bytes.".format(max_bytes), path)
    return data


def check_schema(document: Any, schema: str, path: str) -> None:
    """Refuse a document of another kind or another major version."""
    found = document.get("schema") if isinstance(document, dict) else None
    if found == schema:
        return
    name = schema.partition("/")[0]
    if isinstance(found, str) and found.partition("/")[0] == name:
        raise SchemaVersionError(
            "schema '{}' is not the '{}' that this version reads.".format(found, schema),
            path,
            "schema",
            hint="use the merino-edge that wrote the file, or make the file again.",
        )
    raise FormatError("schema is {!r}, expected '{}'.".format(found, schema), path, "schema")


def encode(value: Any) -> Any:
    """Turn records into plain JSON values, in the order of their fields.

    A record class may name its ``LATER_FIELDS``: those are left out where they have their
    defaults, so that what was written before they came is still written the same way.
    """
    names = field_names(value)
    if names is not None:
        later = getattr(value, "LATER_FIELDS", ())
        pairs = [(name, getattr(value, name)) for name in names]
        return {
            name: encode(item)
            for name, item in pairs
            if name not in later or item != value._field_defaults[name]
        }
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value


def decode(kind: Any, value: Any, path: str = "", field: str = "") -> Any:
    """Turn plain JSON values into ``kind``, refusing what does not fit.

    Args:
        kind: A record class, int, float, str, bool, Any, or Optional/List/Tuple/Dict of these, or
            a Union of two scalars.
        value: What ``json.loads`` gave.
        path: The file, for messages.
        field: Where in the file, for messages.

    Raises:
        FormatError: With the path and the field.
    """
    if kind is Any:
        return value
    if field_names(kind) is not None:
        return _decode_record(kind, value, path, field)
    origin = getattr(kind, "__origin__", None)
    if type(None) in (getattr(kind, "__args__", None) or ()):  # Optional[X], also written X | None
        return _decode_optional(kind, value, path, field)
    if origin in (list, List, tuple, Tuple):
        items = _expect(value, list, "a list", path, field)
        item_kind = kind.__args__[0]
        decoded = [
            decode(item_kind, v, path, "{}[{}]".format(field, i)) for i, v in enumerate(items)
        ]
        return decoded if origin in (list, List) else tuple(decoded)
    if origin in (dict, Dict):
        items = _expect(value, dict, "an object", path, field)
        item_kind = kind.__args__[1]
        return {k: decode(item_kind, v, path, _join(field, k)) for k, v in items.items()}
    return _decode_scalar(kind, value, path, field)


def _decode_record(kind: Any, value: Any, path: str, field: str) -> Any:
    given = _expect(value, dict, "an object", path, field)
    names = field_names(kind) or ()
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise FormatError("unknown field.", path, _join(field, unknown[0]))
    # A NamedTuple keeps its defaults in a dictionary, a dataclass as attributes of the class.
    defaults = getattr(kind, "_field_defaults", {}) if hasattr(kind, "_fields") else vars(kind)
    missing = [name for name in names if name not in given and name not in defaults]
    if missing:
        raise FormatError("missing field.", path, _join(field, missing[0]))
    types = field_types(kind)
    fields = {k: decode(types[k], v, path, _join(field, k)) for k, v in given.items()}
    try:
        return kind(**fields)
    except SpecError as error:
        where = _join(field, error.field) if error.field else field
        raise FormatError(error.reason, path, where, error.note, error.hint)
    except ValueError as error:
        raise FormatError(str(error), path, field)


def field_names(record: Any) -> Optional[Tuple[str, ...]]:
    """Names of a record's or record class's fields in order; None for what is not a record."""
    if hasattr(record, "_fields"):
        return tuple(record._fields)
    if hasattr(record, "__dataclass_fields__"):
        return tuple(record.__dataclass_fields__)
    return None


def field_types(kind: Any) -> Dict[str, Any]:
    """Annotations of a record class, also through a subclass of one."""
    for base in kind.__mro__:
        if "_fields" in base.__dict__ or "__dataclass_fields__" in base.__dict__:
            return dict(base.__annotations__)
    raise TypeError("{!r} is not a record class".format(kind))


def _decode_optional(kind: Any, value: Any, path: str, field: str) -> Any:
    if value is None:
        return None
    inner = [arg for arg in kind.__args__ if arg is not type(None)]
    return decode(inner[0], value, path, field)


def _decode_scalar(kind: Any, value: Any, path: str, field: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    kinds = kind.__args__ if getattr(kind, "__origin__", None) is Union else (kind,)
    if type(value) not in kinds:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise FormatError("expected {}, found {!r}.".format(names, value), path, field)
    return value


def _expect(value: Any, kind: Any, name: str, path: str, field: str) -> Any:
    if not isinstance(value, kind):
        raise FormatError("expected {}, found {!r}.".format(name, value), path, field)
    return value


def _join(field: str, name: str) -> str:
    return field + "." + name if field else name
