"""A sample of the training texts, for whoever cannot use all of them.

The one idea: every piece of text (8 to 16 thousand characters) has a number that follows from its
document's checksum and its place there, as good as random. Pieces below a limit are kept; whenever
they grow beyond the size asked for, the limit is halved. So one reading gives a sample from all
over the corpus, the same one every time, in bounded memory; a corpus that fits is taken whole.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from merino_edge.training.batcher import pieces_of, utf8_length
from merino_edge.training.corpus import Document
from merino_edge.training.split import split_document

_KEYS = 1 << 64


class TextSample(NamedTuple):
    """What one reading of a corpus gave.

    Attributes:
        texts: Pieces of the training side, in the order of the corpus.
        corpus_sha256: Of all documents, as in ``corpus.CorpusSummary``.
        n_documents: How many these are.
    """

    texts: list[str]
    corpus_sha256: str
    n_documents: int


def sample_training_texts(
    documents: Iterable[Document],
    val_fraction: float,
    max_bytes: int,
    on_document: Callable[[int, int], None] = lambda n_documents, n_bytes: None,
) -> TextSample:
    """Pieces of at most ``max_bytes`` of UTF-8 (and half of that at least, if there is so much).

    Args:
        documents: Read once.
        val_fraction: What is held out takes no part.
        max_bytes: Of the sample.
        on_document: Told how many documents and bytes were read.
    """
    digest, keeper, n_documents, n_read = hashlib.sha256(), _Keeper(max_bytes), 0, 0
    for n_documents, document in enumerate(documents, 1):
        digest.update(document.sha256.encode("ascii"))
        text, _ = split_document(document, val_fraction)
        for index, piece in enumerate(pieces_of(text) if text else ()):
            n_read += keeper.offer(f"{document.sha256}:{index}", piece)
        on_document(n_documents, n_read)
    return TextSample([piece for _, piece in keeper.kept], digest.hexdigest(), n_documents)


class _Keeper:
    """Pieces whose key is below a limit, which falls as they grow."""

    def __init__(self, max_bytes: int):
        self.kept: list[tuple[int, str]] = []
        self._max_bytes, self._n_bytes, self._limit = max_bytes, 0, _KEYS

    def offer(self, name: str, piece: str) -> int:
        """Keep a piece or not; its bytes."""
        n_bytes = utf8_length(piece)
        key = int.from_bytes(hashlib.sha256(name.encode("ascii")).digest()[:8], "big")
        if key < self._limit:
            self.kept.append((key, piece))
            self._n_bytes += n_bytes
            while self._n_bytes > self._max_bytes:
                self._halve()
        return n_bytes

    def _halve(self) -> None:
        self._limit //= 2
        self.kept = [(key, piece) for key, piece in self.kept if key < self._limit]
        self._n_bytes = sum(utf8_length(piece) for _, piece in self.kept)
