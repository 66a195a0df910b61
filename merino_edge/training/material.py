"""What a run learns from: token shards, and the tokenizer that made them.

The one idea: a run needs ids, a tokenizer and two checksums, and does not care where they come
from. ``FromCorpus`` makes them out of texts, in the run's own folder; ``FromTokens`` takes a folder
that `merino-edge tokenize` made, where the checksums stand in the manifest. Either way one process
makes what is missing, then every process opens it.
"""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from merino_edge.errors import FormatError, SpecError, UsageError
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture
from merino_edge.model.checkpoint import TOKENIZER, read_text
from merino_edge.training import tokenizer as tok
from merino_edge.training.config import TrainConfig
from merino_edge.training.corpus import read_documents, summarise
from merino_edge.training.progress import OnProgress, TrainProgress
from merino_edge.training.progress_of_tokens import TokenProgress
from merino_edge.training.run_folder import RunFolder
from merino_edge.training.shards import write_tokens
from merino_edge.training.split import split_document
from merino_edge.training.token_folder import MANIFEST, TokenData, open_tokens, sha256_of_text

TOKENS = "tokens"


class Material(NamedTuple):
    """What a run learns from.

    Attributes:
        data: The two streams of ids.
        tokenizer_json: The tokenizer's file.
        end_of_text: Id that ends a text.
    """

    data: TokenData
    tokenizer_json: str
    end_of_text: int


class Source(Protocol):
    """Where the material comes from.

    Attributes:
        corpus_sha256: Of the texts behind the ids.
        tokenizer_id: SHA-256 of the tokenizer, or "bpe" if one is trained on the texts.
    """

    corpus_sha256: str
    tokenizer_id: str

    def make(self, folder: RunFolder, on_progress: OnProgress) -> None:
        """Make what is missing; one process calls it."""

    def provenance(self) -> dict[str, str]:
        """For the checkpoint."""


class FromCorpus:
    """Texts, tokenised into the run's folder.

    Args:
        paths: Files, folders or patterns.
        architecture: Whose vocabulary the tokenizer gets.
        config: Says how much is held out.
        tokenizer: A tokenizer.json, or None to train one.

    Raises:
        UsageError: A path names nothing.
        FormatError: A text cannot be read, or there is none.
    """

    def __init__(
        self,
        paths: Sequence[str],
        architecture: Architecture,
        config: TrainConfig,
        tokenizer: str | None,
    ):
        self._paths, self._vocab_size = paths, architecture.vocab_size
        self._val_fraction, self._given = config.val_fraction, tokenizer
        self._corpus = summarise(paths)
        self.corpus_sha256 = self._corpus.sha256
        self.tokenizer_id = sha256_of_text(tokenizer) if tokenizer else "bpe"

    def make(self, folder: RunFolder, on_progress: OnProgress) -> None:
        """The tokenizer, then the shards, unless they are there."""
        path = folder.file(TOKENIZER)
        text = self._tokenizer(path, on_progress)
        checksums = (self.corpus_sha256, sha256_of_text(text))
        if _holds(folder.file(TOKENS), checksums):
            return
        tokenizer = tok.parse_tokenizer(text, path)

        def tell(progress: TokenProgress) -> None:
            if progress.phase == "tokens":
                n_done, n_documents = progress.n_documents, self._corpus.n_documents
                on_progress(TrainProgress("tokens", n_done, n_documents))

        write_tokens(
            folder.file(TOKENS),
            read_documents(self._paths),
            tokenizer,
            tok.end_of_text_id(tokenizer, path),
            self._val_fraction,
            checksums,
            on_progress=tell,
        )

    def _tokenizer(self, path: str, on_progress: OnProgress) -> str:
        if not os.path.isfile(path):
            on_progress(TrainProgress("tokenizer"))
            text = self._given or tok.train_bpe(self._training_texts(), self._vocab_size)
            jsonio.write_bytes_atomic(path, text.encode("utf-8"))
        return read_text(path)

    def _training_texts(self) -> Iterator[str]:
        for document in read_documents(self._paths):
            yield split_document(document, self._val_fraction)[0]

    def provenance(self) -> dict[str, str]:
        """Counts of the texts."""
        return {
            "corpus_sha256": self.corpus_sha256,
            "corpus_documents": str(self._corpus.n_documents),
            "corpus_bytes": str(self._corpus.n_bytes),
        }


class FromTokens:
    """A folder of shards, with the tokenizer in it.

    Args:
        path: What `merino-edge tokenize` made.
        architecture: Must have as many rows as the tokenizer has tokens.

    Raises:
        FormatError: The folder is damaged, or its tokenizer is not the one that made the ids.
        SpecError: The vocabularies differ.
    """

    def __init__(self, path: str, architecture: Architecture):
        self._manifest = open_tokens(path).manifest
        file = os.path.join(path, TOKENIZER)
        found = sha256_of_text(read_text(file))
        if found != self._manifest.tokenizer_sha256:
            raise FormatError(
                "not the tokenizer that made these tokens.",
                file,
                note=f"its SHA-256 is {found}, {MANIFEST} says {self._manifest.tokenizer_sha256}.",
                hint="make the folder again with: merino-edge tokenize",
            )
        tok.read_tokenizer(file, architecture.vocab_size)
        self.corpus_sha256 = self._manifest.corpus_sha256
        self.tokenizer_id = self._manifest.tokenizer_sha256

    def make(self, folder: RunFolder, on_progress: OnProgress) -> None:
        """Nothing is missing."""

    def provenance(self) -> dict[str, str]:
        """What the manifest knows of the texts."""
        n_bytes = self._manifest.train_bytes + self._manifest.val_bytes
        return {"corpus_sha256": self.corpus_sha256, "corpus_bytes": str(n_bytes)}


def source_of(
    architecture: Architecture,
    config: TrainConfig,
    corpus_paths: Sequence[str],
    data: str | None,
    tokenizer: str | None,
) -> Source:
    """The source that was named.

    Raises:
        UsageError: Both were, or neither; or a tokenizer for tokens that have theirs.
    """
    if bool(corpus_paths) == bool(data):
        raise UsageError("give texts (--corpus) or tokens (--data), one of the two.")
    if not data:
        return FromCorpus(corpus_paths, architecture, config, tokenizer)
    if tokenizer:
        raise UsageError("--data has its own tokenizer; leave --tokenizer out.")
    return FromTokens(data, architecture)


def _holds(path: str, checksums: tuple[str, str]) -> bool:
    """Whether a folder holds the shards of this corpus and this tokenizer."""
    if not os.path.isfile(os.path.join(path, MANIFEST)):
        return False
    manifest = open_tokens(path).manifest
    return (manifest.corpus_sha256, manifest.tokenizer_sha256) == checksums


def open_material(folder: RunFolder, data: str | None) -> Material:
    """What one process made, opened by any: given shards, or the run's own."""
    tokens = data or folder.file(TOKENS)
    path = os.path.join(data or folder.path, TOKENIZER)
    text = read_text(path)
    end_of_text = tok.end_of_text_id(tok.parse_tokenizer(text, path), path)
    return Material(open_tokens(tokens), text, end_of_text)


def refuse_short(data: TokenData, seq_len: int) -> None:
    """Refuse a held-out part that nothing can be predicted in.

    Raises:
        SpecError: With its length.
    """
    if len(data.val) < 2:
        raise SpecError(
            f"the held-out text has {len(data.val)} token(s); two are needed.",
            note=f"windows take {seq_len} tokens.",
            hint="bring more text, or hold out a larger part.",
        )
