"""Files of text as bytes, lines or one string, packed or not.

The one idea: a packed file is a stream like any other. It is unpacked a block at a time, so a
line of a 50 GB archive costs the memory of that line; and an archive that ends too early is an
error, never a shorter text. Offsets always count unpacked bytes. This module does not know what a
document is.
"""

import contextlib
import gzip
import io
import itertools
import lzma
import os
import zlib
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from merino_edge.errors import FormatError, MissingDependencyError

PACKINGS = ("", ".gz", ".xz", ".zst")
MAX_LINE_BYTES = 1 << 28  # a line stands in memory as a whole; books in one line reach 30 MB
_BROKEN_ARCHIVE = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)
_PACKED_BLOCK_BYTES = 1 << 14
_WIDEST_WINDOW_BYTES = 1 << 31  # zstd --long=31, the largest there is


class Line(NamedTuple):
    """One line of a file.

    Attributes:
        number: From 1.
        offset: Of its first byte in the unpacked file.
        data: With its line end.
    """

    number: int
    offset: int
    data: bytes


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked if its name ends in .gz, .xz or .zst.

    Raises:
        FormatError: A damaged or truncated archive, also while it is read.
        MissingDependencyError: .zst, and zstandard is not installed.
        OSError: The file cannot be opened.
    """
    try:
        with _open(path) as stream:
            yield stream
    except _BROKEN_ARCHIVE as error:
        raise FormatError(f"the archive is damaged: {error}.", path) from error


def _open(path: str) -> Any:  # three libraries' kinds of a binary stream
    if path.endswith(PACKINGS[1:]) and os.path.getsize(path) == 0:
        raise EOFError("it is empty, even of a header")
    if path.endswith(".xz"):
        return lzma.open(path, "rb")
    if path.endswith(".gz"):
        return gzip.open(path, "rb")
    if path.endswith(".zst"):
        return io.BufferedReader(_ZstdStream(path), 1 << 20)
    return open(path, "rb")


def read_lines(path: str) -> Iterator[Line]:
    """The lines of a file, one at a time.

    Raises:
        FormatError: A damaged archive, or a line longer than ``MAX_LINE_BYTES``.
    """
    with opened(path) as stream:
        offset = 0
        for number in itertools.count(1):
            data = stream.readline(MAX_LINE_BYTES + 1)
            if not data:
                return
            if len(data) > MAX_LINE_BYTES:
                raise FormatError(
                    f"longer than {MAX_LINE_BYTES} bytes.",
                    path,
                    f"line {number}",
                    note="a line is a document, and stands in memory as a whole.",
                )
            yield Line(number, offset, data)
            offset += len(data)


def read_text(path: str) -> str:
    """A whole text file, unpacked if it is packed; line ends become line feeds.

    Raises:
        FormatError: Not UTF-8, or a damaged archive.
    """
    with opened(path) as stream:
        data = stream.read()
    return with_line_feeds(decoded(data, path).removeprefix("\ufeff"))


def decoded(data: bytes, path: str, offset: int = 0, field: str = "") -> str:
    """UTF-8 as text.

    Args:
        data: The bytes.
        path: Where they came from.
        offset: Where in that file they begin.
        field: Which part of the file they are, for the message.

    Raises:
        FormatError: Not UTF-8, with the offset of the byte in the file.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"not UTF-8 at byte {offset + error.start} (0x{data[error.start]:02x}).",
            path,
            field,
            hint=f"convert it, for example: iconv -f latin1 -t utf-8 '{path}' -o converted.txt",
        ) from error


def with_line_feeds(text: str) -> str:
    """The same text with every line end a line feed."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


class _ZstdStream(io.RawIOBase):
    """Frames of a .zst one after the other.

    The library's own stream reader takes a file that ends within a frame for a complete one, so
    frames are followed here.
    """

    def __init__(self, path: str):
        try:
            import zstandard
        except ImportError as error:
            raise MissingDependencyError(
                "zstandard", "reading .zst files", "pip install 'merino-edge[train]'"
            ) from error
        self._broken = zstandard.ZstdError
        self._context = zstandard.ZstdDecompressor(max_window_size=_WIDEST_WINDOW_BYTES)
        self._file = open(path, "rb")  # noqa: SIM115
        self._frame: Any = None  # the one that is being unpacked
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer) -> int:
        """Fill the buffer with what is unpacked; 0 at the end of the last frame."""
        while not self._ready:
            self._packed = self._packed or self._file.read(_PACKED_BLOCK_BYTES)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("it ends within a zstd frame")
                return 0
            self._ready = memoryview(self._unpack())
        n = min(len(buffer), len(self._ready))
        buffer[:n], self._ready = self._ready[:n], self._ready[n:]
        return n

    def _unpack(self) -> bytes:
        self._frame = self._frame or self._context.decompressobj()
        try:
            data = self._frame.decompress(self._packed)
        except self._broken as error:
            raise EOFError(str(error)) from error
        self._packed = self._frame.unused_data if self._frame.eof else b""
        self._frame = None if self._frame.eof else self._frame
        return data

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()
