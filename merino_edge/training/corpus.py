"""Texts -> documents, always in the same order.

The one idea: a corpus is named by paths (files, folders, patterns) and read one document at a
time, so that nothing grows with it but eight bytes a document, by which exact copies are left
out. A text file is one document; a line of a JSONL file is one; both may be packed (.gz, .xz,
.zst). Text must be UTF-8 to the last byte; what Project Gutenberg wrote around a book that is a
file is cut off. This module knows neither tokens nor torch.
"""

import glob
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from merino_edge.errors import FormatError, UsageError
from merino_edge.training.digest_set import DigestSet
from merino_edge.training.json_lines import read_records
from merino_edge.training.text_files import PACKINGS, read_text, with_line_feeds

TEXT_FIELD = "text"
JSON_LINES = tuple(".jsonl" + packing for packing in PACKINGS)
SUFFIXES = tuple(".txt" + packing for packing in PACKINGS) + JSON_LINES  # looked for in a folder

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
        line: Its line in a JSONL file; None for a file that is one document.
    """

    path: str
    text: str
    sha256: str
    line: int | None = None


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
        paths: Files (.jsonl is JSONL, any other name is text), folders (searched for .txt and
            .jsonl, packed or not), or patterns.

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


class Documents:
    """The documents of a corpus, one at a time, and what was left out on the way.

    Iterate as often as you like; each time the files are read anew.

    Attributes:
        n_copies: Documents left out because the same text came before.
        n_blank: Documents left out because they hold white space only.
    """

    def __init__(self, paths: Sequence[str], text_field: str = TEXT_FIELD):
        self.paths, self.text_field = list(paths), text_field
        self.n_copies = self.n_blank = 0

    def __iter__(self) -> Iterator[Document]:
        self.n_copies = self.n_blank = 0
        seen = DigestSet()
        for path in corpus_files(self.paths):
            for line, text in _texts_of(path, self.text_field):
                digest = hashlib.sha256(_utf8(text, path, line))
                if not text.strip():
                    self.n_blank += 1
                elif not seen.add(digest.digest()):
                    self.n_copies += 1
                else:
                    yield Document(path, text, digest.hexdigest(), line)


def _texts_of(path: str, text_field: str) -> Iterator[tuple[int | None, str]]:
    if path.endswith(JSON_LINES):
        for number, text in read_records(path, text_field):
            yield number, with_line_feeds(text)
    else:
        yield None, without_gutenberg(read_text(path))


def _utf8(text: str, path: str, line: int | None) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can write half of a surrogate pair
        raise FormatError(
            f"character {error.start} is half of a surrogate pair.", path, f"line {line}"
        ) from error


def read_documents(paths: Sequence[str], text_field: str = TEXT_FIELD) -> Documents:
    """The documents of a corpus, to be iterated.

    Args:
        paths: As for ``corpus_files``.
        text_field: Of JSONL records, the field that holds the text.

    Raises:
        UsageError: While iterating: a path names nothing.
        FormatError: While iterating: not UTF-8 (with the offset of the byte), a line that is no
            record with text (with its number), or a damaged archive.
    """
    return Documents(paths, text_field)


def summarise(paths: Sequence[str], text_field: str = TEXT_FIELD) -> CorpusSummary:
    """Read a corpus once to learn its checksum and size.

    Raises:
        UsageError: A path names nothing.
        FormatError: A file cannot be read as text, or there is no text at all.
    """
    digest, n_documents, n_bytes = hashlib.sha256(), 0, 0
    for document in read_documents(paths, text_field):
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


def without_gutenberg(text: str) -> str:
    """The book alone, without Project Gutenberg's header and footer; other texts as they are."""
    start = _GUTENBERG_START.search(text)
    begin = start.end() if start else 0
    end = _GUTENBERG_END.search(text, begin)
    if not start and not end:
        return text
    return text[begin : end.start() if end else len(text)].strip("\n") + "\n"
