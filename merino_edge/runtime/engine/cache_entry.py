"""One engine in the cache: its record, its plan, and what may be wrong with them.

The one idea: a look costs little (a record, a size), trust costs reading the plan once. Whoever
lists looks; whoever is about to load trusts only what ``check_plan`` let pass.
"""

import os
from typing import NamedTuple, Optional

from merino_edge.errors import ChecksumError, FormatError, MerinoError, SchemaVersionError
from merino_edge.formats import jsonio
from merino_edge.formats.bundle import sha256_of
from merino_edge.formats.engine_record import SCHEMA, EngineRecord

_AGAIN = "build it again: merino-edge build BUNDLE --force"


class Entry(NamedTuple):
    """An engine in the cache, or what is left of one.

    Attributes:
        record_path: The record's file.
        record: What it says; None if it cannot be read.
        problem: Why it would not be used; None if nothing is known against it.
    """

    record_path: str
    record: Optional[EngineRecord]
    problem: Optional[str]


def read_entry_record(path: str) -> EngineRecord:
    """The record in a file of the cache.

    Raises:
        FormatError: It is none, or names a plan that is not beside it.
        SchemaVersionError: Another version of merino-edge wrote it.
    """
    record: EngineRecord = jsonio.read_record(path, SCHEMA, EngineRecord)
    if os.path.basename(record.plan_file) != record.plan_file:
        raise FormatError(
            "{!r} is not a file beside the record.".format(record.plan_file), path, "plan_file"
        )
    return record


def entry_at(path: str) -> Entry:
    """What stands there, and what speaks against using it; checksums are not computed."""
    try:
        record = read_entry_record(path)
    except SchemaVersionError:
        return Entry(path, None, "written by another version of merino-edge")
    except MerinoError as error:
        return Entry(path, None, error.message)
    plan_path = os.path.join(os.path.dirname(path), record.plan_file)
    if not os.path.exists(plan_path):
        return Entry(path, record, "its plan is gone")
    if os.path.getsize(plan_path) != record.plan_bytes:
        return Entry(path, record, "its plan was cut or changed")
    return Entry(path, record, None if record.verified else "not verified yet")


def check_plan(path: str, record: EngineRecord) -> None:
    """Compare a plan with its record, size first, then every byte.

    Raises:
        ChecksumError: It was cut or changed.
    """
    size = os.path.getsize(path)
    if size != record.plan_bytes:
        raise ChecksumError(
            "the engine has {} bytes, its record says {}.".format(size, record.plan_bytes),
            path,
            hint=_AGAIN,
        )
    found = sha256_of(path)
    if found != record.plan_sha256:
        raise ChecksumError(
            "the engine's sha256 is {}…, its record says {}….".format(
                found[:12], record.plan_sha256[:12]
            ),
            path,
            hint=_AGAIN,
        )
