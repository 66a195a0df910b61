"""``tokenise(...)``: texts to a folder of shards with their tokenizer, in one call.

The one idea: with a given tokenizer the corpus is read once; without one it is read twice, first
for a sample of the training side on which a byte-level BPE is trained, then for the ids. The
trained tokenizer waits beside the unfinished shards, with the checksum of the corpus that it was
trained on, so a call that continues does not train it again.
"""

import os
import time
from collections.abc import Sequence
from typing import NamedTuple

from merino_edge.errors import FormatError
from merino_edge.formats import jsonio
from merino_edge.formats.bundle import refuse_existing
from merino_edge.training.corpus import TEXT_FIELD, Documents, corpus_files
from merino_edge.training.progress_of_tokens import OnTokens, TokenProgress
from merino_edge.training.shards import EMPTY_CORPUS, PART_BYTES, write_tokens
from merino_edge.training.text_sample import sample_training_texts
from merino_edge.training.token_folder import MANIFEST, TokenData, sha256_of_text
from merino_edge.training.tokenizer import (
    end_of_text_id,
    parse_tokenizer,
    portable_tokenizer,
    train_bpe,
)

SAMPLE_BYTES = 256_000_000
TRAINED = "trained.json"
TRAINED_SCHEMA = "merino-edge.trained-tokenizer/1"


class TokenisingConfig(NamedTuple):
    """How to tokenise.

    Attributes:
        val_fraction: Part to hold out.
        text_field: Of JSONL records.
        workers: Processes.
        sample_bytes: Most text that a tokenizer is trained on.
        part_bytes: Text a shard.
    """

    val_fraction: float = 0.05
    text_field: str = TEXT_FIELD
    workers: int = 1
    sample_bytes: int = SAMPLE_BYTES
    part_bytes: int = PART_BYTES


class _Trained(NamedTuple):
    """A trained tokenizer, and of what."""

    vocab_size: int
    sample_bytes: int
    val_fraction: float
    corpus_sha256: str
    tokenizer_json: str


class _Tokenizer(NamedTuple):
    json: str
    corpus_sha256: str | None  # known if it was trained


def tokenise(
    paths: Sequence[str],
    output: str,
    tokenizer: str | int,
    config: TokenisingConfig | None = None,
    force: bool = False,
    on_progress: OnTokens = lambda progress: None,
) -> TokenData:
    """Make a folder of shards, or continue one that was interrupted.

    Args:
        paths: Files, folders or patterns.
        output: The folder.
        tokenizer: Path of a tokenizer.json, or the size of a vocabulary to train.
        config: How.
        force: Replace what stands at ``output``, and unfinished work of another kind.
        on_progress: Told where it stands.

    Raises:
        UsageError: A path names nothing, or something stands at ``output``.
        SpecError: The corpus is too small for the vocabulary, or one side of it stays empty.
        FormatError: A text cannot be read, or the tokenizer.
        UnsupportedError: A board could not read the tokenizer.
        ChecksumError: The corpus changed since the unfinished work began.
        OSError: The disk is full.
    """
    config = config or TokenisingConfig()
    corpus_files(paths)
    refuse_existing(output, MANIFEST, force)
    documents = Documents(paths, config.text_field)
    if isinstance(tokenizer, str):
        found = _Tokenizer(portable_tokenizer(tokenizer), None)
    else:
        found = _trained(documents, output, tokenizer, config, force, on_progress)
    parsed = parse_tokenizer(found.json, str(tokenizer))
    return write_tokens(
        output,
        documents,
        parsed,
        end_of_text_id(parsed, str(tokenizer)),
        config.val_fraction,
        (found.corpus_sha256, sha256_of_text(found.json)),
        workers=config.workers,
        force=force,
        tokenizer_json=found.json,
        on_progress=on_progress,
        part_bytes=config.part_bytes,
    )


def _trained(
    documents: Documents,
    output: str,
    vocab_size: int,
    config: TokenisingConfig,
    force: bool,
    on_progress: OnTokens,
) -> _Tokenizer:
    """A tokenizer of this size: the one that waits, unless ``force`` or it is of another kind."""
    folder = os.path.normpath(output) + ".part"
    file = os.path.join(folder, TRAINED)
    wanted = (vocab_size, config.sample_bytes, config.val_fraction)
    earlier = None if force else _read_trained(file)
    if earlier and earlier[:3] == wanted:
        return _Tokenizer(earlier.tokenizer_json, earlier.corpus_sha256)
    began = time.monotonic()

    def tell(n_documents: int, n_bytes: int) -> None:
        elapsed_s = time.monotonic() - began
        on_progress(TokenProgress("tokenizer", n_documents, n_bytes, elapsed_s=elapsed_s))

    sample = sample_training_texts(documents, config.val_fraction, config.sample_bytes, tell)
    if not sample.n_documents:
        raise FormatError(EMPTY_CORPUS)
    on_progress(TokenProgress("merges"))
    text = train_bpe(sample.texts, vocab_size)
    os.makedirs(folder, exist_ok=True)
    trained = _Trained(*wanted, sample.corpus_sha256, text)
    jsonio.write_record(file, TRAINED_SCHEMA, trained)
    return _Tokenizer(text, sample.corpus_sha256)


def _read_trained(file: str) -> _Trained | None:
    try:
        return jsonio.read_record(file, TRAINED_SCHEMA, _Trained)
    except FormatError:
        return None
