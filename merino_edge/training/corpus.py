"""Text files -> documents, always in the same order.

The one idea: a corpus is named by paths (files, folders, patterns) and read one document at a
time, so that nothing grows with it but a set of checksums. A file is a document; text must be
UTF-8 to the last byte; what Project Gutenberg wrote around a book is cut off; exact copies are
left out. This module knows neither tokens nor torch.
"""

import glob
import gzip
import hashlib
import lzma
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from merino_edge.errors import FormatError, UsageError

SUFFIXES = (".txt", ".txt.xz", ".txt.gz")  # what a folder is searched for
_BROKEN_ARCHIVE = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)

# Today's files, and those of the 1990s ("*END*THE SMALL PRINT! ... *Ver.04.29.93*END*").
_GUTENBERG_START = re.compile(
    r"^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*?\*\*\*[^\n]*\n"
    r"|^\*(?:END\*)?\s*THE SMALL PRINT![^\n]*\*END\*[^\n]*\n",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
_GUTENBERG_END = re.compile(
    r"^(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG EBOOK"
    r"|\**\s*End of (?:the |this )?Project Gutenberg)",
    re.MULTILINE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Document:
    """One text.

    Attributes:
        path: The file it came from.
        text: Never empty, never only white space; lines end in a line feed.
        sha256: Of the text in UTF-8.
    """

    path: str
    text: str
    sha256: str


@dataclass(frozen=True)
class CorpusSummary:
    """What a corpus amounts to.

    Attributes:
        sha256: Over the documents' checksums, in their order: same texts, same number.
        n_documents: After exact copies were left out.
        n_bytes: UTF-8 bytes of their texts.
    """

    sha256: str
    n_documents: int
    n_bytes: int


def corpus_files(paths: Sequence[str]) -> list[str]:
    """Every file that the paths name, in their order, sorted within each path, each file once.

    Args:
        paths: Files (of any name), folders (searched for .txt, .txt.xz and .txt.gz), or patterns.

    Raises:
        UsageError: A path names nothing.
    """
    found: dict[str, str] = {}
    for path in paths:
        files = _files_at(path)
        if not files:
            raise UsageError(
                f"--corpus '{path}' names no text.",
                note=f"a folder is searched for {', '.join(SUFFIXES)}, at any depth.",
            )
        for file in files:
            found.setdefault(os.path.realpath(file), file)
    return list(found.values())


def _files_at(path: str) -> list[str]:
    if os.path.isfile(path):
        return [path]
    if os.path.isdir(path):
        inside = (os.path.join(top, name) for top, _, names in os.walk(path) for name in names)
        return sorted(file for file in inside if file.endswith(SUFFIXES))
    return sorted(file for file in glob.glob(path, recursive=True) if os.path.isfile(file))


def read_documents(paths: Sequence[str]) -> Iterator[Document]:
    """The documents of a corpus, one at a time.

    Raises:
        UsageError: A path names nothing.
        FormatError: A file is not UTF-8 (with the offset of the byte), or a damaged archive.
    """
    seen: set[str] = set()
    for path in corpus_files(paths):
        text = without_gutenberg(read_text(path))
        sha256 = hashlib.sha256(text.encode("utf-8")).hexdigest()
        if text.strip() and sha256 not in seen:
            seen.add(sha256)
            yield Document(path, text, sha256)


def summarise(paths: Sequence[str]) -> CorpusSummary:
    """Read a corpus once to learn its checksum and size.

    Raises:
        UsageError: A path names nothing.
        FormatError: A file cannot be read as text, or there is no text at all.
    """
    digest, n_documents, n_bytes = hashlib.sha256(), 0, 0
    for document in read_documents(paths):
        digest.update(document.sha256.encode("ascii"))
        n_documents += 1
        n_bytes += len(document.text.encode("utf-8"))
    if not n_documents:
        raise FormatError(
            "the corpus is empty.",
            ", ".join(paths),
            note=f"{len(corpus_files(paths))} file(s) were read, and none holds a letter.",
        )
    return CorpusSummary(digest.hexdigest(), n_documents, n_bytes)


def read_text(path: str) -> str:
    """A whole text file, unpacked if its name ends in .xz or .gz; line ends become line feeds.

    Raises:
        FormatError: Not UTF-8, or a damaged archive. Offsets count unpacked bytes.
    """
    opener = lzma.open if path.endswith(".xz") else gzip.open if path.endswith(".gz") else open
    try:
        with opener(path, "rb") as stream:
            data = stream.read()
    except _BROKEN_ARCHIVE as error:
        raise FormatError(f"the archive is damaged: {error}.", path) from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"not UTF-8 at byte {error.start} (0x{data[error.start]:02x}).",
            path,
            hint=f"convert it, for example: iconv -f latin1 -t utf-8 '{path}' -o converted.txt",
        ) from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def without_gutenberg(text: str) -> str:
    """The book alone, without Project Gutenberg's header and footer; other texts as they are."""
    start = _GUTENBERG_START.search(text)
    begin = start.end() if start else 0
    end = _GUTENBERG_END.search(text, begin)
    if not start and not end:
        return text
    return text[begin : end.start() if end else len(text)].strip("\n") + "\n"
