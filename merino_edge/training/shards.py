"""Token shards: a corpus turned into ids once, in files that are mapped and never read whole.

The one idea: the end of each document is held out *before* anything is tokenised, and goes to
files of its own. Training windows are cut from the training files only, so no window can hold a
held-out character. A document that cannot be cut (one word, say) goes to one side whole, by its
checksum. Every part ends with the end-of-text id.

A folder holds ``train-0000.bin`` ..., ``val-0000.bin`` ... (little-endian uint16, or uint32 for
large vocabularies) and ``tokens.json``, which says of which texts and which tokenizer they are.
The folder appears whole or not at all.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from typing import BinaryIO, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from merino_edge.errors import FormatError, SpecError
from merino_edge.formats import jsonio
from merino_edge.formats.bundle import folder_in_place
from merino_edge.training.corpus import Document
from merino_edge.training.data import TokenStream

SCHEMA = "merino-edge.tokens/1"
MANIFEST = "tokens.json"
SHARD_TOKENS = 1 << 27  # 268 MB a file of uint16


class Shard(NamedTuple):
    """One file of ids."""

    name: str
    n_tokens: int


class TokenManifest(NamedTuple):
    """What ``tokens.json`` holds.

    Attributes:
        dtype: "uint16" or "uint32".
        corpus_sha256, tokenizer_sha256: Of what the ids were made.
        val_fraction: Part of each document that was held out.
        train, val: The files, in order.
        train_bytes, val_bytes: UTF-8 bytes of the texts behind them.
    """

    dtype: str
    corpus_sha256: str
    tokenizer_sha256: str
    val_fraction: float
    train: list[Shard]
    val: list[Shard]
    train_bytes: int
    val_bytes: int


class TokenData:
    """An opened folder of shards.

    Attributes:
        manifest: What it holds.
        train, val: The two streams of ids, mapped.
    """

    def __init__(self, path: str, manifest: TokenManifest):
        self.manifest = manifest
        self.train = _stream(path, manifest.train, manifest.dtype)
        self.val = _stream(path, manifest.val, manifest.dtype)

    @property
    def val_tokens_per_byte(self) -> float:
        """Turns nats per token of the held-out text into nats per byte."""
        return len(self.val) / self.manifest.val_bytes


def open_tokens(path: str) -> TokenData:
    """Open a folder of shards.

    Raises:
        FormatError: No manifest, or a shard is missing or has another size.
    """
    return TokenData(path, jsonio.read_record(os.path.join(path, MANIFEST), SCHEMA, TokenManifest))


def _stream(path: str, shards: list[Shard], dtype: str) -> TokenStream:
    size = np.dtype(dtype).itemsize
    for shard in shards:
        file = os.path.join(path, shard.name)
        found = os.path.getsize(file) if os.path.isfile(file) else 0
        if found != shard.n_tokens * size:
            raise FormatError(f"{found} bytes, expected {shard.n_tokens * size}.", file)
    kind = np.dtype(dtype).newbyteorder("<")
    return TokenStream([np.memmap(os.path.join(path, s.name), kind, "r") for s in shards])


def write_tokens(
    path: str,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    end_of_text: int,
    val_fraction: float,
    checksums: tuple[str, str],
    on_document: Callable[[int], None] = lambda n_documents: None,
    shard_tokens: int = SHARD_TOKENS,
) -> TokenData:
    """Tokenise a corpus into a folder.

    Args:
        path: The folder; an older one of the kind is replaced.
        documents: What to tokenise, in order.
        tokenizer: Text to ids.
        end_of_text: Id after each part.
        val_fraction: Part of each document to hold out.
        checksums: SHA-256 of the corpus and of the tokenizer.
        on_document: Told how many documents are done.
        shard_tokens: Tokens a file.

    Raises:
        SpecError: One side of the split stays empty.
        OSError: The disk is full.
    """
    dtype = "uint16" if tokenizer.get_vocab_size() <= 1 << 16 else "uint32"
    with folder_in_place(path, MANIFEST, force=True) as folder:
        sides = [_SideWriter(folder, name, dtype, shard_tokens) for name in ("train", "val")]
        try:
            for n_done, document in enumerate(documents, 1):
                for side, text in zip(sides, split_document(document, val_fraction), strict=True):
                    if text:
                        ids = tokenizer.encode(text, add_special_tokens=False).ids
                        side.add([*ids, end_of_text], len(text.encode("utf-8")))
                on_document(n_done)
        finally:
            for side in sides:
                side.close()
        manifest = _manifest(sides, dtype, checksums, val_fraction)
        jsonio.write_record(os.path.join(folder, MANIFEST), SCHEMA, manifest)
    return open_tokens(path)


def split_document(document: Document, val_fraction: float) -> tuple[str, str]:
    """(training text, held-out text): cut at the end of a line, else of a word, else not at all."""
    text = document.text
    target = int(len(text) * (1 - val_fraction))
    cut = (text.rfind("\n", 0, target) + 1) or (text.rfind(" ", 0, target) + 1)
    if text[:cut].strip() and text[cut:].strip():
        return text[:cut], text[cut:]
    held_out = int(document.sha256[:8], 16) < val_fraction * (1 << 32)
    return ("", text) if held_out else (text, "")


def _manifest(
    sides: list["_SideWriter"], dtype: str, checksums: tuple[str, str], val_fraction: float
) -> TokenManifest:
    train, val = sides
    for side in sides:
        if not side.shards:
            raise SpecError(
                f"the {side.name} part of the corpus is empty.",
                note=f"val_fraction is {val_fraction}; training got {train.n_bytes} bytes.",
                hint="bring more text.",
            )
    return TokenManifest(
        dtype, *checksums, val_fraction, train.shards, val.shards, train.n_bytes, val.n_bytes
    )


class _SideWriter:
    """Appends ids to numbered files, a new one whenever the last is full."""

    def __init__(self, folder: str, name: str, dtype: str, shard_tokens: int):
        self.name = name
        self.n_bytes = 0
        self.shards: list[Shard] = []
        self._folder = folder
        self._kind = np.dtype(dtype).newbyteorder("<")
        self._shard_tokens = shard_tokens
        self._stream: BinaryIO | None = None

    def add(self, ids: list[int], n_bytes: int) -> None:
        """Append one text's ids."""
        self.n_bytes += n_bytes
        rest = np.array(ids, dtype=self._kind)
        while len(rest):
            stream, room = self._open_shard()
            stream.write(rest[:room].tobytes())
            last = self.shards[-1]
            self.shards[-1] = last._replace(n_tokens=last.n_tokens + len(rest[:room]))
            rest = rest[room:]

    def _open_shard(self) -> tuple[BinaryIO, int]:
        if self._stream is None or self.shards[-1].n_tokens == self._shard_tokens:
            self.close()
            self.shards.append(Shard(f"{self.name}-{len(self.shards):04d}.bin", 0))
            self._stream = open(os.path.join(self._folder, self.shards[-1].name), "wb")  # noqa: SIM115
        return self._stream, self._shard_tokens - self.shards[-1].n_tokens

    def close(self) -> None:
        """Flush the last file to the disk."""
        if self._stream is not None:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            self._stream = None


def sha256_of_text(text: str) -> str:
    """SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
