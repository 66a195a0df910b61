"""An archive of a bundle: one plain tar, the same bytes for the same bundle, whoever packs it when.

The one idea: an index stands first and says everything that follows (names, sizes, SHA-256, in
order), so whoever reads the archive knows every byte of every later header before it comes: owner,
time and mode are fixed. The reader (``archive_reader``) makes the same header and compares, and so
takes neither link nor device nor a file twice. ``archive_writer`` packs.

::

    archive.json        the index
    archive.sig         an Ed25519 signature of the index, if it was signed
    manifest.json ...   the files of the bundle, in the index's order
    1024 zero bytes

There is no compression: weights of few bits hardly shrink, and the bytes that a compressor gives
differ from one version to the next. ``tar -tf`` lists an archive like any other. Not known here:
how a signature is made, and where an archive is unpacked.
"""

import hashlib
import re
from typing import List, NamedTuple, Optional, Tuple

from merino_edge.errors import FormatError, SpecError
from merino_edge.formats import jsonio
from merino_edge.formats.bundle import MANIFEST
from merino_edge.formats.manifest import SCHEMA as BUNDLE_SCHEMA

SCHEMA = "merino-edge.archive/1"
INDEX = "archive.json"
SIGNATURE = "archive.sig"
BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)
CHUNK_BYTES = 1 << 20
MOST_INDEX_BYTES = 1 << 20
MOST_FILE_BYTES = (8 << 30) - 1  # eleven octal digits

# Parts of a path: nothing hidden, nothing that goes up, nothing that a shell or a tar reads twice.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,3}")
_BUNDLE_SCHEMA = re.compile(re.escape(BUNDLE_SCHEMA.partition("/")[0]) + r"/[1-9][0-9]{0,5}")
_BUNDLE_ID = re.compile(r"[0-9a-f]{12}")
# The name is shown on terminals: no control characters, nothing that turns the line around.
_TITLE = re.compile("[^\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\ud800-\\udfff]{0,200}")
_LONGEST_NAME = 100  # what a tar header holds without an extension


class ArchivedFile(NamedTuple):
    """One file of an archive."""

    name: str
    sha256: str
    size_bytes: int


class ArchiveIndex(NamedTuple):
    """What an archive holds; this is what a signature vouches for.

    Attributes:
        name: The bundle's, for people.
        bundle_id: Of the bundle.
        bundle_schema: The schema of its manifest, such as "merino-edge.bundle/1".
        files: All of them, the manifest first, then by name.
        version: Of the product, such as "1.4.0"; None if it was packed without.
    """

    name: str
    bundle_id: str
    bundle_schema: str
    files: List[ArchivedFile]
    version: Optional[str] = None

    @property
    def size_bytes(self) -> int:
        """All files together, unpacked."""
        return sum(file.size_bytes for file in self.files)

    @property
    def schema_number(self) -> int:
        """The number in ``bundle_schema``."""
        return int(self.bundle_schema.rpartition("/")[2])

    @property
    def version_numbers(self) -> Tuple[int, ...]:
        """The version to compare by: "1.4.0" gives (1, 4), no version gives ()."""
        return version_numbers(self.version) if self.version is not None else ()


def version_numbers(version: str) -> Tuple[int, ...]:
    """Numbers to compare: "1.4.0" -> (1, 4), without zeros at the end, so "1.4" equals "1.4.0".

    Raises:
        SpecError: It is not one to four numbers with dots between them.
    """
    if not _VERSION.fullmatch(version):
        raise SpecError("version {!r} is not numbers with dots, such as 1.4.0.".format(version))
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def index_bytes(index: ArchiveIndex) -> bytes:
    """The one way to write an index; what a signature is over."""
    document = {"schema": SCHEMA}
    document.update(jsonio.encode(index))
    return jsonio.dumps(document).encode("utf-8")


def archive_id(data: bytes) -> str:
    """SHA-256 of an index's bytes: it names the archive and, through the index, every file."""
    return hashlib.sha256(data).hexdigest()


def signed_message(data: bytes) -> bytes:
    """What is signed for an index's bytes: its SHA-256, and what kind of thing it is the sum of."""
    return "{} sha256 {}".format(SCHEMA, archive_id(data)).encode("ascii")


def header(name: str, size_bytes: int) -> bytes:
    """The 512 bytes before a file: plain ustar, owner 0, time 0, mode 0644.

    Written here and not by ``tarfile``, whose headers differ between Python 3.6 and 3.11 (the
    numbers of a device that a file does not have).
    """
    mode, owner, time = b"0000644\0", b"0000000\0", b"00000000000\0"
    size = "{:011o}\0".format(size_bytes).encode("ascii")
    before = name.encode("ascii").ljust(100, b"\0") + mode + owner + owner + size + time
    after = (b"0" + bytes(100) + b"ustar\x0000").ljust(BLOCK_BYTES - len(before) - 8, b"\0")
    total = sum(before) + sum(after) + 8 * ord(" ")  # the sum counts its own field as spaces
    return before + "{:06o}\0 ".format(total).encode("ascii") + after


def padding(size_bytes: int) -> bytes:
    """Zeros up to the next block."""
    return bytes(-size_bytes % BLOCK_BYTES)


def check_index(index: ArchiveIndex, path: str) -> None:
    """Refuse an index that no archive of ours has.

    Raises:
        FormatError: Names the field.
    """
    if not _TITLE.fullmatch(index.name):
        raise FormatError("too long, or with control characters.", path, "name")
    if not _BUNDLE_ID.fullmatch(index.bundle_id):
        raise FormatError("not twelve hexadecimal digits.", path, "bundle_id")
    if not _BUNDLE_SCHEMA.fullmatch(index.bundle_schema):
        raise FormatError("no schema of a bundle.", path, "bundle_schema")
    if index.version is not None and not _VERSION.fullmatch(index.version):
        raise FormatError("not numbers with dots.", path, "version")
    names = set()  # type: set[str]
    for file in index.files:
        _check_file(file, path)
        if file.name in names:
            raise FormatError("the file {!r} is there twice.".format(file.name), path, "files")
        names.add(file.name)
    _check_places(names, path)
    if not index.files or index.files[0].name != MANIFEST:
        raise FormatError("the first file is not {}.".format(MANIFEST), path, "files")


def _check_file(file: ArchivedFile, path: str) -> None:
    if not _NAME.fullmatch(file.name) or len(file.name) > _LONGEST_NAME:
        raise FormatError(
            "the name {!r} leaves its folder, or is none that an archive takes.".format(
                file.name[: 2 * _LONGEST_NAME]
            ),
            path,
            "files",
            note="names are up to {} of A-Z a-z 0-9 . _ - and /, no part begins with a dot.".format(
                _LONGEST_NAME
            ),
        )
    if file.name in (INDEX, SIGNATURE):
        raise FormatError("the name {!r} is the archive's own.".format(file.name), path, "files")
    if not _SHA256.fullmatch(file.sha256):
        raise FormatError("the sha256 of {!r} is none.".format(file.name), path, "files")
    if not 0 <= file.size_bytes <= MOST_FILE_BYTES:
        raise FormatError(
            "{!r} has {} bytes, at most {} fit.".format(
                file.name, file.size_bytes, MOST_FILE_BYTES
            ),
            path,
            "files",
        )


def _check_places(names: "set[str]", path: str) -> None:
    """No file may be the folder of another."""
    for name in names:
        parts = name.split("/")
        above = ("/".join(parts[:n]) for n in range(1, len(parts)))
        if any(folder in names for folder in above):
            raise FormatError("{!r} lies below another file.".format(name), path, "files")
