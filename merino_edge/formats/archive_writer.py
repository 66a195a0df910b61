"""Packing a bundle: its index, a signature if somebody signs, its files.

The one idea: the manifest already says what every file's SHA-256 is, so the index can stand first
and each file is read once: while it is copied it is checked. How a signature is made is not known
here.
"""

import contextlib
import hashlib
import os
from typing import BinaryIO, Callable, Iterator, Optional

from merino_edge.errors import ChecksumError, FormatError, UsageError
from merino_edge.formats import jsonio
from merino_edge.formats.archive import (
    CHUNK_BYTES,
    END,
    INDEX,
    MOST_INDEX_BYTES,
    SIGNATURE,
    ArchivedFile,
    ArchiveIndex,
    check_index,
    header,
    index_bytes,
    padding,
    signed_message,
    version_numbers,
)
from merino_edge.formats.bundle import MANIFEST, Bundle
from merino_edge.formats.manifest import SCHEMA as BUNDLE_SCHEMA

Sign = Callable[[bytes], bytes]


def index_of(bundle: Bundle, version: Optional[str] = None) -> ArchiveIndex:
    """The index of a bundle, from its manifest; no other file is read.

    Raises:
        FormatError: A file has a name that no archive takes.
        SpecError: The version is none.
    """
    if version is not None:
        version_numbers(version)
    manifest = jsonio.read_bytes(os.path.join(bundle.path, MANIFEST), jsonio.MAX_JSON_BYTES)
    first = ArchivedFile(MANIFEST, hashlib.sha256(manifest).hexdigest(), len(manifest))
    others = [
        ArchivedFile(name, entry.sha256, entry.size_bytes)
        for name, entry in sorted(bundle.manifest.files.items())
    ]
    name, schema = bundle.manifest.name, BUNDLE_SCHEMA
    index = ArchiveIndex(name, bundle.bundle_id, schema, [first] + others, version)
    check_index(index, bundle.path)
    if len(index_bytes(index)) > MOST_INDEX_BYTES:
        raise FormatError("too many files for an archive.", bundle.path)
    return index


def pack(
    bundle: Bundle,
    path: str,
    version: Optional[str] = None,
    sign: Optional[Sign] = None,
    force: bool = False,
) -> ArchiveIndex:
    """Write the archive of a bundle, in constant memory; it appears whole or not at all.

    Args:
        bundle: What to pack; every file is checked against its SHA-256 as it is read.
        path: The archive.
        version: Of the product, for whoever must refuse an older one.
        sign: Message -> content of ``archive.sig``; None for an unsigned archive.
        force: Replace a file that is there.

    Raises:
        ChecksumError: A file is not what the manifest says.
        UsageError: There is a file already, and ``force`` is off.
    """
    if os.path.lexists(path) and not force:
        raise UsageError("'{}' exists.".format(path), hint="name another -o, or add --force.")
    index = index_of(bundle, version)
    with _file_in_place(path) as stream:
        data = index_bytes(index)
        _write_small(stream, INDEX, data)
        if sign is not None:
            _write_small(stream, SIGNATURE, sign(signed_message(data)))
        for file in index.files:
            _write_file(stream, bundle, file)
        stream.write(END)
    return index


def _write_small(stream: BinaryIO, name: str, data: bytes) -> None:
    stream.write(header(name, len(data)) + data + padding(len(data)))


def _write_file(stream: BinaryIO, bundle: Bundle, file: ArchivedFile) -> None:
    path, digest, size_bytes = os.path.join(bundle.path, file.name), hashlib.sha256(), 0
    stream.write(header(file.name, file.size_bytes))
    with open(path, "rb") as source:
        for chunk in iter(lambda: source.read(CHUNK_BYTES), b""):
            digest.update(chunk)
            size_bytes += len(chunk)
            stream.write(chunk)
    if size_bytes != file.size_bytes or digest.hexdigest() != file.sha256:
        raise ChecksumError(
            "sha256 is {}…, the manifest says {}….".format(
                digest.hexdigest()[:12], file.sha256[:12]
            ),
            path,
            hint="the file changed since the bundle was made; build it again.",
        )
    stream.write(padding(size_bytes))


@contextlib.contextmanager
def _file_in_place(path: str) -> Iterator[BinaryIO]:
    """A temporary file that becomes ``path`` when the block ends well, and vanishes otherwise."""
    import tempfile

    folder = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~jsonio.umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
