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
from collections.abc import Iterable

from tokenizers import Tokenizer

from merino_edge.errors import ChecksumError, FormatError
from merino_edge.formats import jsonio
from merino_edge.formats.bundle import folder_in_place, refuse_existing
from merino_edge.training.batcher import PartEnd
from merino_edge.training.corpus import Document
from merino_edge.training.held_out import Sides, written_sides
from merino_edge.training.parts import Part
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
from merino_edge.training.token_work import OtherCorpus, TokenWork, Work
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


def write_tokens(
    path: str,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    end_of_text: int,
    val_fraction: float,
    checksums: tuple[str | None, str],
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
    made = TokenWork(os.path.normpath(path) + ".part", work, tokenizer, workers, on_progress)
    try:
        parts = _parts(made, documents, force)
        _refuse_another_corpus(parts, checksums[0])
        on_progress(TokenProgress("overlap"))
        dtype = dtype_of(tokenizer.get_vocab_size())
        sides = written_sides(made.folder, parts, dtype, tokenizer, end_of_text, workers)
        manifest = _manifest(sides, parts[-1].end, work, tokenizer.get_vocab_size(), documents)
        _move(made.folder, path, manifest, tokenizer_json)
        return open_tokens(path)
    except BaseException:
        made.leave()
        raise


def _parts(work: TokenWork, documents: Iterable[Document], force: bool) -> list[Part]:
    """Make the parts that are missing; by force all of them, if those there are of other texts."""
    work.begin(force)
    try:
        return work.run(documents)
    except OtherCorpus:
        if not force:
            raise
        work.discard()
        work.begin(force)
        return work.run(documents)


def _refuse_another_corpus(parts: list[Part], expected: str | None) -> None:
    if not parts:
        raise FormatError(EMPTY_CORPUS)
    found = parts[-1].end.corpus_sha256
    if expected not in (None, found):
        raise ChecksumError(
            "the corpus changed between two readings.",
            note=f"its SHA-256 was {expected} and is {found}.",
            hint="start again, with --force if that was given before.",
        )


def _manifest(
    sides: Sides, end: PartEnd, work: Work, vocab_size: int, documents: Iterable[Document]
) -> TokenManifest:
    return TokenManifest(
        dtype=dtype_of(vocab_size),
        corpus_sha256=end.corpus_sha256,
        tokenizer_sha256=work.tokenizer_sha256,
        val_fraction=work.val_fraction,
        train=sides.train,
        val=sides.val,
        train_bytes=sides.n_bytes[0],
        val_bytes=sides.n_bytes[1],
        split=work.split,
        vocab_size=vocab_size,
        end_of_text=work.end_of_text,
        n_documents=end.n_documents,
        n_copies=getattr(documents, "n_copies", 0),
        n_blank=getattr(documents, "n_blank", 0),
        train_texts=sides.n_texts[0],
        val_texts=sides.n_texts[1],
        overlap=sides.overlap,
    )


def _move(folder: str, path: str, manifest: TokenManifest, tokenizer_json: str | None) -> None:
    """All into place at once; then nothing is unfinished."""
    with folder_in_place(path, MANIFEST, force=True) as place:
        for shard in manifest.train + manifest.val:
            os.rename(os.path.join(folder, shard.name), os.path.join(place, shard.name))
        if tokenizer_json is not None:
            data = tokenizer_json.encode("utf-8")
            jsonio.write_bytes_atomic(os.path.join(place, TOKENIZER), data)
        jsonio.write_record(os.path.join(place, MANIFEST), SCHEMA, manifest)
    shutil.rmtree(folder, ignore_errors=True)
