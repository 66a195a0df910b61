"""Unfinished shards: what is made anew, what is kept of an earlier process, what is refused.

The one idea: the work is named by what decides its bytes (``Work``), and written beside its parts.
Complete parts of the same work are kept; the corpus is read again all the same, so that one that
changed meanwhile is noticed. Finishing the folder is not known here (``shards``).
"""

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tokenizers import Tokenizer

from merino_edge.errors import ChecksumError, FormatError, UsageError
from merino_edge.formats import jsonio
from merino_edge.training.batcher import Batch, Batcher
from merino_edge.training.corpus import Document
from merino_edge.training.encoding import Ids, encoded
from merino_edge.training.parts import Part, PartWriter, complete_parts
from merino_edge.training.progress_of_tokens import OnTokens, TokenProgress
from merino_edge.training.token_folder import dtype_of

WORK = "work.json"
WORK_SCHEMA = "merino-edge.token-work/1"


class Work(NamedTuple):
    """What unfinished work is of; parts are kept only for the same."""

    tokenizer_sha256: str
    end_of_text: int
    val_fraction: float
    part_bytes: int
    split: str


class OtherCorpus(ChecksumError):
    """Complete parts are of other texts."""


class TokenWork:
    """Parts in a folder, and what they are of.

    Args:
        folder: Where.
        work: What they are of.
        tokenizer: Text to ids.
        workers: Processes that tokenise.
        tell: Told how far it is.
    """

    def __init__(
        self,
        folder: str,
        work: Work,
        tokenizer: Tokenizer,
        workers: int,
        tell: OnTokens,
    ):
        self.folder, self._work, self._tokenizer = folder, work, tokenizer
        self._workers, self._tell = workers, tell
        self._dtype = dtype_of(tokenizer.get_vocab_size())
        self._kept: dict[int, Part] = {}
        self._made: dict[int, Part] = {}

    def begin(self, force: bool) -> None:
        """Take up unfinished work of the same kind, or start.

        Raises:
            UsageError: Other work is unfinished there, without force.
        """
        file = os.path.join(self.folder, WORK)
        if os.path.isfile(file):
            if self._is_of_the_same(file):
                self._kept = complete_parts(self.folder)
                return
            if not force:
                raise UsageError(
                    f"'{self.folder}' holds unfinished work with another tokenizer or split.",
                    hint="add --force to throw it away, or name another -o.",
                )
            self.discard()
        os.makedirs(self.folder, exist_ok=True)
        jsonio.write_record(file, WORK_SCHEMA, self._work)

    def _is_of_the_same(self, file: str) -> bool:
        try:
            return jsonio.read_record(file, WORK_SCHEMA, Work) == self._work
        except FormatError:
            return False

    def discard(self) -> None:
        """Throw the work away."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._kept = {}

    def leave(self) -> None:
        """After an error: keep the folder for the sake of complete parts only."""
        if os.path.isdir(self.folder) and not complete_parts(self.folder):
            self.discard()

    def run(self, documents: Iterable[Document]) -> list[Part]:
        """Make every part that is missing; all of them, in order.

        Raises:
            OtherCorpus: A complete part is of other texts.
        """
        began, n_bytes, n_tokens = time.monotonic(), 0, 0
        for batch, ids in self._written(self._encoded(documents)):
            n_bytes += sum(batch.n_bytes)
            n_tokens += sum(len(side) for side in ids)
            figures = (batch.n_documents, n_bytes, n_tokens, time.monotonic() - began)
            self._tell(TokenProgress("tokens", *figures, len(self._kept)))
        return [self._made[index] for index in sorted(self._made)]

    def _encoded(self, documents: Iterable[Document]) -> Iterator[tuple[Batch, Ids]]:
        work, kept = self._work, self._kept
        batches = Batcher(work.val_fraction, work.part_bytes, kept.__contains__).batches(documents)
        text = self._tokenizer.to_str()
        return encoded(batches, text, work.end_of_text, self._dtype, self._workers)

    def _written(self, ids_of: Iterable[tuple[Batch, Ids]]) -> Iterator[tuple[Batch, Ids]]:
        """Each batch, after it was written to its part."""
        self._made = {}
        writer: PartWriter | None = None
        try:
            for batch, ids in ids_of:
                index = len(self._made)
                if index not in self._kept:
                    writer = writer or PartWriter(self.folder, index, self._dtype)
                    writer.add(batch, ids)
                if batch.end:
                    part = writer.finish(batch.end) if writer else self._kept[index]
                    self._check_same_corpus(part, batch)
                    self._made[index] = part
                    writer = None
                yield batch, ids
        finally:
            if writer:
                writer.abandon()

    def _check_same_corpus(self, part: Part, batch: Batch) -> None:
        if part.end != batch.end:
            raise OtherCorpus(
                f"the corpus changed within its first {part.end.n_documents} documents.",
                self.folder,
                note="this folder holds shards of it as it was when the work began.",
                hint="add --force to begin again.",
            )
