"""Token shards: a corpus turned into ids once, in files that are mapped and never read whole.

The one idea: texts are held out *before* anything is tokenised (see ``split``), and go to files of
their own, so no training window can hold a held-out text; then passages that stand on both sides
are dropped from the held-out one (see ``overlap``). The work is done in parts beside the result,
``<path>.part``: who is killed loses one part, the same call makes the others only. The folder
itself appears whole or not at all.

A folder holds ``train-0000.bin`` ..., ``val-0000.bin`` ... (little-endian uint16, or uint32 for
large vocabularies) and ``tokens.json`` (see ``token_folder``).
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tokenizers import Tokenizer

from merino_edge.errors import ChecksumError, FormatError, UsageError
from merino_edge.formats import jsonio
from merino_edge.formats.bundle import folder_in_place, refuse_existing
from merino_edge.training.batcher import Batch, Batcher
from merino_edge.training.corpus import Document
from merino_edge.training.encoding import Ids, encoded
from merino_edge.training.held_out import written_sides
from merino_edge.training.parts import Part, PartWriter, complete_parts
from merino_edge.training.progress_of_tokens import OnTokens, TokenProgress
from merino_edge.training.split import RULE, split_document
from merino_edge.training.token_folder import (
    MANIFEST,
    SCHEMA,
    TOKENIZER,
    TokenData,
    TokenManifest,
    dtype_of,
    open_tokens,
    sha256_of_text,
)
from merino_edge.training.tokenizer import check_ids

__all__ = [  # the door to all of it
    "MANIFEST",
    "TokenData",
    "TokenManifest",
    "open_tokens",
    "sha256_of_text",
    "split_document",
    "write_tokens",
]

PART_BYTES = 1 << 28  # of text: about 64 M tokens, 130 MB of uint16
EMPTY_CORPUS = "the corpus is empty: no document holds a letter."
WORK = "work.json"
WORK_SCHEMA = "merino-edge.token-work/1"


class Work(NamedTuple):
    """What unfinished work is of; parts are kept only for the same."""

    tokenizer_sha256: str
    end_of_text: int
    val_fraction: float
    part_bytes: int
    split: str


def write_tokens(
    path: str,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    end_of_text: int,
    val_fraction: float,
    checksums: tuple[str | None, str],
    on_document: Callable[[int], None] = lambda n_documents: None,
    *,
    workers: int = 1,
    force: bool = True,
    tokenizer_json: str | None = None,
    on_progress: OnTokens = lambda progress: None,
    part_bytes: int = PART_BYTES,
) -> TokenData:
    """Tokenise a corpus into a folder; continues what an earlier call left unfinished.

    Args:
        path: The folder.
        documents: What to tokenise, in order.
        tokenizer: Text to ids.
        end_of_text: Id after each text.
        val_fraction: Part to hold out.
        checksums: SHA-256 of the corpus (None if not known: it is found while reading) and of the
            tokenizer.
        on_document: Told how many documents are done.
        workers: Processes that tokenise; the result is the same for any number.
        force: Replace an older folder, and unfinished work of another kind.
        tokenizer_json: Put into the folder as ``tokenizer.json``, if given.
        on_progress: Told how far it is.
        part_bytes: Text a shard.

    Raises:
        UsageError: Something stands at ``path``, or other work is unfinished there, without force.
        SpecError: One side of the split stays empty.
        FormatError: A document cannot be read, or there is none.
        ChecksumError: The corpus is not the one that was summarised, or that the unfinished work
            began with (without force).
        OSError: The disk is full.
    """
    refuse_existing(path, MANIFEST, force)
    check_ids(tokenizer)
    work = Work(checksums[1], end_of_text, val_fraction, part_bytes, RULE)

    def tell(progress: TokenProgress) -> None:
        if progress.phase == "tokens":
            on_document(progress.n_documents)
        on_progress(progress)

    job = _Job(os.path.normpath(path) + ".part", work, tokenizer, workers, tell)
    try:
        _carry_out(job, documents, force)
        return job.finish(path, documents, checksums, tokenizer_json)
    except BaseException:
        job.leave()
        raise


def _carry_out(job: "_Job", documents: Iterable[Document], force: bool) -> None:
    """Make the parts that are missing; by force all of them, if those there are of other texts."""
    job.begin(force)
    try:
        job.run(documents)
    except _OtherCorpus:
        if not force:
            raise
        job.discard()
        job.begin(force)
        job.run(documents)


class _OtherCorpus(ChecksumError):
    """Complete parts are of other texts."""


class _Job:
    """Parts in a folder, and what they are of."""

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
        self._vocab_size = tokenizer.get_vocab_size()
        self._dtype = dtype_of(self._vocab_size)
        self._parts: dict[int, Part] = {}

    def begin(self, force: bool) -> None:
        """Take up unfinished work of the same kind, or start."""
        file = os.path.join(self.folder, WORK)
        if os.path.isfile(file):
            if self._is_of_the_same(file):
                self._parts = complete_parts(self.folder)
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
        self._parts = {}

    def leave(self) -> None:
        """After an error: keep the folder for the sake of complete parts only."""
        if os.path.isdir(self.folder) and not complete_parts(self.folder):
            self.discard()

    def run(self, documents: Iterable[Document]) -> None:
        """Make every part that is missing."""
        began, n_bytes, n_tokens = time.monotonic(), 0, 0
        kept = dict(self._parts)
        batcher = Batcher(self._work.val_fraction, self._work.part_bytes, kept.__contains__)
        batches = batcher.batches(documents)
        ids_of = encoded(
            batches, self._tokenizer.to_str(), self._work.end_of_text, self._dtype, self._workers
        )
        self._made: dict[int, Part] = {}
        for batch, ids in self._written(ids_of, kept):
            n_bytes += sum(batch.n_bytes)
            n_tokens += sum(len(side) for side in ids)
            self._tell(
                TokenProgress(
                    "tokens",
                    batch.n_documents,
                    n_bytes,
                    n_tokens,
                    time.monotonic() - began,
                    len(kept),
                )
            )
        self._parts = self._made

    def _written(self, ids_of: Iterable[tuple[Batch, Ids]], kept: dict[int, Part]):
        """Each batch, after it was written to its part."""
        writer: PartWriter | None = None
        try:
            for batch, ids in ids_of:
                index = len(self._made)
                if index not in kept:
                    writer = writer or PartWriter(self.folder, index, self._dtype)
                    writer.add(batch, ids)
                if batch.end:
                    self._made[index] = writer.finish(batch.end) if writer else kept[index]
                    self._check_same_corpus(self._made[index], batch)
                    writer = None
                yield batch, ids
        finally:
            if writer:
                writer.abandon()

    def _check_same_corpus(self, part: Part, batch: Batch) -> None:
        if part.end != batch.end:
            raise _OtherCorpus(
                f"the corpus changed within its first {part.end.n_documents} documents.",
                self.folder,
                note="this folder holds shards of it as it was when the work began.",
                hint="add --force to begin again.",
            )

    def finish(
        self,
        path: str,
        documents: Iterable[Document],
        checksums: tuple[str | None, str],
        tokenizer_json: str | None,
    ) -> TokenData:
        """Look at both sides together, write the manifest, and move all into place."""
        parts = [self._parts[index] for index in sorted(self._parts)]
        if not parts:
            raise FormatError(EMPTY_CORPUS)
        found, expected = parts[-1].end.corpus_sha256, checksums[0]
        if expected not in (None, found):
            raise ChecksumError(
                "the corpus changed between two readings.",
                note=f"its SHA-256 was {expected} and is {found}.",
                hint="start again, with --force if that was given before.",
            )
        self._tell(TokenProgress("overlap"))
        sides = written_sides(
            self.folder, parts, self._dtype, self._tokenizer, self._work.end_of_text, self._workers
        )
        manifest = TokenManifest(
            dtype=self._dtype,
            corpus_sha256=found,
            tokenizer_sha256=checksums[1],
            val_fraction=self._work.val_fraction,
            train=sides.train,
            val=sides.val,
            train_bytes=sides.n_bytes[0],
            val_bytes=sides.n_bytes[1],
            split=RULE,
            vocab_size=self._vocab_size,
            end_of_text=self._work.end_of_text,
            n_documents=parts[-1].end.n_documents,
            n_copies=getattr(documents, "n_copies", 0),
            n_blank=getattr(documents, "n_blank", 0),
            train_texts=sides.n_texts[0],
            val_texts=sides.n_texts[1],
            overlap=sides.overlap,
        )
        self._move(path, manifest, tokenizer_json)
        return open_tokens(path)

    def _move(self, path: str, manifest: TokenManifest, tokenizer_json: str | None) -> None:
        with folder_in_place(path, MANIFEST, force=True) as place:
            for shard in manifest.train + manifest.val:
                os.rename(os.path.join(self.folder, shard.name), os.path.join(place, shard.name))
            if tokenizer_json is not None:
                data = tokenizer_json.encode("utf-8")
                jsonio.write_bytes_atomic(os.path.join(place, TOKENIZER), data)
            jsonio.write_record(os.path.join(place, MANIFEST), SCHEMA, manifest)
        shutil.rmtree(self.folder, ignore_errors=True)
