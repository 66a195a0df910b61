"""A folder of token shards: its manifest, and how it is opened and checked.

The one idea: shards are mapped, never read whole, and the manifest ``tokens.json`` knows enough to
tell a folder that is what it was from one that was cut, edited or mixed with another. It says of
which texts and which tokenizer the ids are, how they were split, and each file's checksum. A
folder made by `merino-edge tokenize` holds its ``tokenizer.json`` as well.
"""

import hashlib
import os
from typing import NamedTuple

import numpy as np

from merino_edge.errors import ChecksumError, FormatError
from merino_edge.formats import jsonio
from merino_edge.formats.bundle import sha256_of
from merino_edge.training.data import TokenStream

SCHEMA = "merino-edge.tokens/1"
MANIFEST = "tokens.json"
TOKENIZER = "tokenizer.json"


class Shard(NamedTuple):
    """One file of ids.

    Attributes:
        name: Below the folder.
        n_tokens: In it.
        sha256: Of its bytes; "" in folders of before there were checksums.
    """

    name: str
    n_tokens: int
    sha256: str = ""


class Overlap(NamedTuple):
    """What was taken out of the held-out side because training text holds it too.

    Attributes:
        run_tokens: No run of so many held-out tokens, or more, stands in the training side.
        dropped_tokens, dropped_bytes: Taken out.
    """

    run_tokens: int
    dropped_tokens: int
    dropped_bytes: int


class TokenManifest(NamedTuple):
    """What ``tokens.json`` holds. Fields with a default are missing in older folders.

    Attributes:
        dtype: "uint16" or "uint32", little-endian.
        corpus_sha256, tokenizer_sha256: Of what the ids were made.
        val_fraction: Part that was held out.
        train, val: The files, in order.
        train_bytes, val_bytes: UTF-8 bytes of the texts behind them.
        split: The rule that held texts out.
        vocab_size: Of the tokenizer; 0 for "not said".
        end_of_text: The id after each text.
        n_documents: Of the corpus, each text counted once.
        n_copies, n_blank: Documents left out: exact copies, and white space only.
        train_texts, val_texts: Texts on either side; a file that was cut counts on both.
        overlap: None if it was not looked for.
    """

    dtype: str
    corpus_sha256: str
    tokenizer_sha256: str
    val_fraction: float
    train: list[Shard]
    val: list[Shard]
    train_bytes: int
    val_bytes: int
    split: str = ""
    vocab_size: int = 0
    end_of_text: int | None = None
    n_documents: int = 0
    n_copies: int = 0
    n_blank: int = 0
    train_texts: int = 0
    val_texts: int = 0
    overlap: Overlap | None = None


class TokenData:
    """An opened folder of shards.

    Attributes:
        manifest: What it holds.
        train, val: The two streams of ids, mapped.
    """

    def __init__(self, path: str, manifest: TokenManifest):
        self.manifest = manifest
        self.train = TokenStream([mapped(path, s, manifest.dtype) for s in manifest.train])
        self.val = TokenStream([mapped(path, s, manifest.dtype) for s in manifest.val])

    @property
    def val_tokens_per_byte(self) -> float:
        """Turns nats per token of the held-out text into nats per byte."""
        return len(self.val) / self.manifest.val_bytes


def open_tokens(path: str, verify: bool = False) -> TokenData:
    """Open a folder of shards.

    Args:
        path: The folder.
        verify: Also read every file and compare its checksum, about a second a gigabyte.

    Raises:
        FormatError: No manifest, an empty side, or a shard is missing or has another size.
        ChecksumError: Checked, and a shard or the tokenizer is not what it was.
    """
    manifest = _manifest(os.path.join(path, MANIFEST))
    _check(path, manifest)
    if verify:
        verify_tokens(path, manifest)
    return TokenData(path, manifest)


def _manifest(file: str) -> TokenManifest:
    if not os.path.isfile(file):
        raise FormatError(
            "there are no tokens in the folder.",
            os.path.dirname(file),
            hint="merino-edge tokenize --corpus texts/ --vocab-size 4096 -o tokens/",
        )
    found: TokenManifest = jsonio.read_record(file, SCHEMA, TokenManifest)
    return found


def _check(path: str, manifest: TokenManifest) -> None:
    file = os.path.join(path, MANIFEST)
    if manifest.dtype not in ("uint16", "uint32"):
        raise FormatError(f"{manifest.dtype!r} is neither uint16 nor uint32.", file, "dtype")
    for side, shards in (("train", manifest.train), ("val", manifest.val)):
        for index, shard in enumerate(shards):
            if shard.name != os.path.basename(shard.name):
                raise FormatError(f"{shard.name!r} leaves the folder.", file, f"{side}[{index}]")
        if not sum(shard.n_tokens for shard in shards):
            raise FormatError("there are no tokens.", file, side)


def dtype_of(vocab_size: int) -> str:
    """The smallest kind of id that holds a vocabulary."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def mapped(path: str, shard: Shard, dtype: str) -> np.ndarray:
    """The ids of a shard, mapped read-only.

    Raises:
        FormatError: It is missing or has another size.
    """
    kind = np.dtype(dtype).newbyteorder("<")
    file = os.path.join(path, shard.name)
    found = os.path.getsize(file) if os.path.isfile(file) else 0
    if found != shard.n_tokens * kind.itemsize:
        raise FormatError(f"{found} bytes, expected {shard.n_tokens * kind.itemsize}.", file)
    return np.memmap(file, kind, "r") if found else np.zeros(0, kind)


class IdsOnDisk:
    """The ids of a shard, read a slice at a time.

    Mapped pages count as this process's memory until someone else needs it; a scan over all of a
    corpus should not look like a process that grows.
    """

    def __init__(self, path: str, shard: Shard, dtype: str):
        self._path, self._n = os.path.join(path, shard.name), shard.n_tokens
        self._kind = np.dtype(dtype).newbyteorder("<")

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, where: slice) -> np.ndarray:
        """A slice with step 1."""
        start, stop, _ = where.indices(self._n)
        offset = start * self._kind.itemsize
        return np.fromfile(self._path, self._kind, max(stop - start, 0), offset=offset)


def verify_tokens(path: str, manifest: TokenManifest) -> None:
    """Read every file and compare its checksum.

    Raises:
        ChecksumError: A shard or the tokenizer is not what it was; the file is named.
    """
    expected = {s.name: s.sha256 for s in manifest.train + manifest.val if s.sha256}
    if os.path.isfile(os.path.join(path, TOKENIZER)):
        expected[TOKENIZER] = manifest.tokenizer_sha256
    for name, sha256 in expected.items():
        found = sha256_of(os.path.join(path, name))
        if found != sha256:
            raise ChecksumError(
                "changed since it was made.",
                os.path.join(path, name),
                note=f"its SHA-256 is {found}, {MANIFEST} says {sha256}.",
                hint="make the folder again: merino-edge tokenize ... --force",
            )


def sha256_of_text(text: str) -> str:
    """SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
