"""An archive into the inactive slot: checked as it comes, unpacked beside, renamed into place.

The one idea: until the last rename nothing that anybody uses has changed, so a cut, a full disk or
a wrong archive leaves no more than ``slots/.incoming``, which the next install removes. Nothing is
written before the index was read and everything that it alone can tell was checked: the signature,
the schema, the version, the size, the space on the disk.
"""

import contextlib
import os
from typing import BinaryIO, NamedTuple, Optional, Sequence

from merino_edge.errors import (
    DeviceMemoryError,
    FormatError,
    MerinoError,
    SchemaVersionError,
    UnsupportedError,
    UsageError,
)
from merino_edge.formats.archive import INDEX, ArchiveIndex, archive_id
from merino_edge.formats.archive_reader import ArchiveReader
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.manifest import SCHEMA as BUNDLE_SCHEMA
from merino_edge.runtime.updates import durable, trust
from merino_edge.runtime.updates.state import SLOTS, TRIAL, StoreState
from merino_edge.runtime.updates.store import Held, Store

MOST_BYTES = 4 * 10**9
SPARE_BYTES = 16 << 20  # for file systems' own books, and for whoever else writes meanwhile
_INCOMING = ".incoming"
_OUTGOING = ".outgoing"


class InstallOptions(NamedTuple):
    """What is asked of an archive.

    Attributes:
        keys: Public key files, beside those of the store.
        max_bytes: Unpacked size at most.
        allow_downgrade: Take an older version of the product; never an older schema.
    """

    keys: Sequence[str] = ()
    max_bytes: int = MOST_BYTES
    allow_downgrade: bool = False


class Installed(NamedTuple):
    """What was installed.

    Attributes:
        slot: Where.
        contents: What the archive said of itself.
        signed_by: The key that was checked; None where no key is set.
        was_there: The slot held the same archive already, whole; nothing was written.
    """

    slot: str
    contents: ArchiveIndex
    signed_by: Optional[str]
    was_there: bool


def install(
    store: Store, stream: BinaryIO, path: str, options: Optional[InstallOptions] = None
) -> Installed:
    """Put an archive into the slot that is not active.

    Args:
        store: Where.
        stream: The archive, at its first byte; a file or a pipe.
        path: Its name, for messages.
        options: What is asked of it.

    Raises:
        FormatError: It is not what it claims, not signed as it must be, or too large.
        SchemaVersionError: Of a schema older than the active slot's, or newer than this version's.
        UnsupportedError: Of an older version than the active slot's.
        DeviceMemoryError: The disk has no room for it.
        UsageError: The active slot is on trial, so the other one is still needed.
        MerinoError: Another install is at work.
    """
    chosen = options or InstallOptions()
    with store.installing():
        with store.locked() as found:
            slot, active = _free_slot(store, found), _held(store, found.active)
        for left in (_INCOMING, _OUTGOING):
            durable.remove(os.path.join(store.slots, left))
        reader = ArchiveReader(stream, path)
        signed_by = trust.check_signature(reader, trust.key_paths(store.keys, chosen.keys), path)
        _check_schema(reader.index, active, path)
        _check_version(reader.index, active, chosen.allow_downgrade)
        if _is_there(store, slot, reader):
            return Installed(slot, reader.index, signed_by, True)
        _check_size(store, reader.index, chosen.max_bytes, path)
        _fill(store, slot, reader, path)
    return Installed(slot, reader.index, signed_by, False)


def _free_slot(store: Store, found: StoreState) -> str:
    """The slot to fill; it may be filled only while nobody may have to go back to it."""
    if found.active is None:
        return SLOTS[0]
    if store.known(found.active, found).status == TRIAL:
        raise UsageError(
            "slot {} is on trial; the other one is what it would go back to.".format(found.active),
            hint="merino-edge bundle confirm, or merino-edge bundle rollback, and then again.",
        )
    return next(slot for slot in SLOTS if slot != found.active)


def _held(store: Store, slot: Optional[str]) -> Optional[Held]:
    """What the active slot holds; a damaged one must not stand in the way of what mends it."""
    with contextlib.suppress(FormatError):
        return store.held(slot) if slot is not None else None
    return None


def _check_schema(index: ArchiveIndex, active: Optional[Held], path: str) -> None:
    supported = int(BUNDLE_SCHEMA.rpartition("/")[2])
    floor = active.contents.schema_number if active is not None else supported
    if index.schema_number < floor:
        raise SchemaVersionError(
            "schema '{}' is older than the '{}' in use here.".format(
                index.bundle_schema, active.contents.bundle_schema if active else BUNDLE_SCHEMA
            ),
            path,
            hint="build the bundle again with a newer merino-edge; schemas do not go back.",
        )
    if index.schema_number != supported:
        raise SchemaVersionError(
            "schema '{}' is not the '{}' that this version reads.".format(
                index.bundle_schema, BUNDLE_SCHEMA
            ),
            path,
            hint="update merino-edge on this machine first.",
        )


def _check_version(index: ArchiveIndex, active: Optional[Held], allow_downgrade: bool) -> None:
    if active is None or allow_downgrade:
        return
    if index.version_numbers < active.contents.version_numbers:
        raise UnsupportedError(
            "version {} is older than {}, which is active.".format(
                index.version or "(none)", active.contents.version
            ),
            hint="merino-edge bundle rollback goes back to what was there; --allow-downgrade "
            "installs it all the same.",
        )


def _is_there(store: Store, slot: str, reader: ArchiveReader) -> bool:
    try:
        held = store.held(slot)
        if held is None or held.archive_id != archive_id(reader.index_data):
            return False
        store.check(slot)
    except (MerinoError, OSError):
        return False
    return True


def _check_size(store: Store, index: ArchiveIndex, max_bytes: int, path: str) -> None:
    if index.size_bytes > max_bytes:
        raise FormatError(
            "{} bytes when unpacked, at most {} are taken.".format(index.size_bytes, max_bytes),
            path,
            hint="--max-size takes more.",
        )
    status = os.statvfs(store.slots)
    free, needed = status.f_bavail * status.f_frsize, index.size_bytes + SPARE_BYTES
    if free < needed:
        raise DeviceMemoryError(
            "the disk of '{}' has {} MB free, the bundle takes {} MB.".format(
                store.path, free // 10**6, -(-needed // 10**6)
            ),
            needed_bytes=needed,
            free_bytes=free,
            hint="free some space, or let --store be on another disk.",
        )


def _fill(store: Store, slot: str, reader: ArchiveReader, path: str) -> None:
    incoming = os.path.join(store.slots, _INCOMING)
    outgoing = os.path.join(store.slots, _OUTGOING)
    try:
        _unpack(reader, incoming)
        _check_bundle(reader.index, os.path.join(incoming, "bundle"), path)
        with store.locked() as found:
            if found.active == slot:  # somebody rolled back meanwhile
                raise UsageError("slot {} became the active one meanwhile.".format(slot))
            if os.path.lexists(store.slot(slot)):
                durable.rename(store.slot(slot), outgoing)
            durable.rename(incoming, store.slot(slot))
    except BaseException:
        with contextlib.suppress(OSError):
            durable.remove(incoming)
        raise
    durable.remove(outgoing)


def _unpack(reader: ArchiveReader, folder: str) -> None:
    bundle = os.path.join(folder, "bundle")
    durable.make_folder(bundle)
    folders = {bundle}
    with durable.new_file(os.path.join(folder, INDEX)) as write:
        write(reader.index_data)
    for file in reader.index.files:
        target = os.path.join(bundle, file.name)
        durable.make_folder(os.path.dirname(target))
        folders.add(os.path.dirname(target))
        with durable.new_file(target) as write:
            reader.copy(file, write)
    reader.finish()
    for each in sorted(folders) + [folder]:
        durable.sync_folder(each)


def _check_bundle(index: ArchiveIndex, folder: str, path: str) -> None:
    """What the index says of the bundle is what the bundle says of itself."""
    bundle = Bundle.open(folder)
    entries = bundle.manifest.files
    files = {file.name: (file.sha256, file.size_bytes) for file in index.files[1:]}
    if files != {name: (entry.sha256, entry.size_bytes) for name, entry in entries.items()}:
        raise FormatError("index and manifest do not list the same files.", path)
    if (index.bundle_id, index.name) != (bundle.bundle_id, bundle.manifest.name):
        raise FormatError("index and manifest do not name the same bundle.", path)
