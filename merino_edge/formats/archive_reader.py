"""Reading an archive that may come from anywhere: nothing in it decides what is done next.

The one idea: only two headers are read for a size, those of the index and the signature, and both
sizes have a cap. Every other header is made from the index and compared with the bytes that are
there, so there is no parser to fool: what is not the very file that must come now is refused.
It is read once, front to back, from a file or a pipe, in constant memory; what a file holds is
known to be right only when ``copy`` has returned. Not known here: who may sign, and where the
files go.
"""

import hashlib
from typing import BinaryIO, Callable, Optional

from merino_edge.errors import ChecksumError, FormatError
from merino_edge.formats import jsonio
from merino_edge.formats.archive import (
    BLOCK_BYTES,
    CHUNK_BYTES,
    END,
    INDEX,
    MOST_INDEX_BYTES,
    SCHEMA,
    SIGNATURE,
    ArchivedFile,
    ArchiveIndex,
    check_index,
    header,
    index_bytes,
)

MOST_SIGNATURE_BYTES = 4096
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a folder",
    b"6": "a pipe",
}


class ArchiveReader:
    """An archive being read.

    Args:
        stream: At its first byte.
        path: For messages.

    Attributes:
        index: What it holds.
        index_data: The bytes of the index, which are signed.
        signature: The content of ``archive.sig``, or None. Nobody has checked it yet.

    Raises:
        FormatError: It does not begin like an archive of ours, or ends early.
        SchemaVersionError: It is one of another version.
    """

    def __init__(self, stream: BinaryIO, path: str):
        self._stream = stream
        self._path = path
        self._n_files = 0
        self._header = self._read(BLOCK_BYTES)
        self.index_data = self._read_small(INDEX, MOST_INDEX_BYTES)
        self.index = self._parse_index()
        self._header = self._read(BLOCK_BYTES)
        self.signature: Optional[bytes] = None
        if _name(self._header) == SIGNATURE:
            self.signature = self._read_small(SIGNATURE, MOST_SIGNATURE_BYTES)
            self._header = self._read(BLOCK_BYTES)

    def copy(self, file: ArchivedFile, write: Callable[[bytes], object]) -> None:
        """Hand the content of the next file over, in pieces.

        Args:
            file: The next one of the index.
            write: Gets each piece. What it got is to be thrown away if this raises.

        Raises:
            FormatError: Something else stands there, or the archive ends early.
            ChecksumError: The content is not what the index says.
        """
        assert self.index.files[self._n_files] == file
        self._expect(header(file.name, file.size_bytes), file.name)
        digest, left = hashlib.sha256(), file.size_bytes
        while left:
            chunk = self._read(min(left, CHUNK_BYTES))
            digest.update(chunk)
            write(chunk)
            left -= len(chunk)
        if digest.hexdigest() != file.sha256:
            raise ChecksumError(
                "{}: sha256 is {}…, the index says {}….".format(
                    file.name, digest.hexdigest()[:12], file.sha256[:12]
                ),
                self._path,
                hint="the archive was damaged on its way; fetch it again.",
            )
        self._read_padding(file.size_bytes)
        self._n_files += 1
        self._header = self._read(BLOCK_BYTES)

    def finish(self) -> None:
        """Check that the archive ends where it should.

        Raises:
            FormatError: It goes on.
        """
        rest = self._header + self._read(len(END) - BLOCK_BYTES)
        self._expect(END[:BLOCK_BYTES], "the end")
        if rest != END or self._stream.read(1):
            raise FormatError("something follows the last file of the index.", self._path)

    def _read_small(self, name: str, most_bytes: int) -> bytes:
        """Content of a file whose size only its header tells."""
        digits = self._header[124:135]
        size_bytes = int(digits, 8) if set(digits) <= set(b"01234567") else -1
        if size_bytes > most_bytes:
            raise FormatError(
                "{} has {} bytes, at most {} are read.".format(name, size_bytes, most_bytes),
                self._path,
            )
        self._expect(header(name, max(0, size_bytes)), name)
        data = self._read(size_bytes)
        self._read_padding(size_bytes)
        return data

    def _parse_index(self) -> ArchiveIndex:
        document = jsonio.json_from(self.index_data, self._path)
        index = jsonio.record_from(document, self._path + ": " + INDEX, SCHEMA, ArchiveIndex)
        check_index(index, self._path + ": " + INDEX)
        if index_bytes(index) != self.index_data:
            raise FormatError("the index is not written as an index is.", self._path, INDEX)
        return index

    def _expect(self, expected: bytes, name: str) -> None:
        if self._header == expected:
            return
        found = "something else"
        if self._header[257:262] == b"ustar":
            kind = _KINDS.get(self._header[156:157], "a file")
            found = "{} {!r} of another kind, size or owner".format(kind, _name(self._header))
        raise FormatError(
            "{} was expected, there is {}.".format(name, found),
            self._path,
            note="an archive is exactly what `merino-edge bundle pack` writes.",
        )

    def _read_padding(self, size_bytes: int) -> None:
        if any(self._read(-size_bytes % BLOCK_BYTES)):
            raise FormatError("the space between two files is not empty.", self._path)

    def _read(self, n_bytes: int) -> bytes:
        """Exactly so many bytes; a pipe may give fewer at a time."""
        parts, left = [], n_bytes
        while left:
            part = self._stream.read(left)
            if not part:
                raise FormatError(
                    "the archive ends early.", self._path, hint="it was cut; fetch it again."
                )
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def _name(block: bytes) -> str:
    """The name in a header, for comparing and telling."""
    return block[:100].split(b"\0", 1)[0].decode("ascii", "replace")
