"""Parts of a folder of shards that is being made: each complete or not there.

The one idea: a part is a file of training ids, a file of held-out ids and, written last, a record
with their checksums. Whatever kills the process, a part whose record stands and whose files agree
with it is complete, and every other is made again.
"""

import hashlib
import os
import re
from typing import BinaryIO, NamedTuple

import numpy as np

from merino_edge.errors import FormatError
from merino_edge.formats import jsonio
from merino_edge.formats.bundle import sha256_of
from merino_edge.training.batcher import SIDES, Batch, PartEnd
from merino_edge.training.encoding import Ids
from merino_edge.training.token_folder import Shard

PART_SCHEMA = "merino-edge.token-part/1"


class PartSide(NamedTuple):
    """One side of a part.

    Attributes:
        shard: Its file; without tokens there is none.
        n_bytes: UTF-8 bytes of the texts behind it.
        n_texts: How many texts.
    """

    shard: Shard
    n_bytes: int
    n_texts: int


class Part(NamedTuple):
    """The record of a complete part.

    Attributes:
        end: Where in the corpus it ends.
        sides: Training, then held out.
    """

    end: PartEnd
    sides: list[PartSide]


class ShardFile:
    """Appends ids to a file, which appears with the first of them."""

    def __init__(self, folder: str, name: str, dtype: str):
        self._path, self._name = os.path.join(folder, name), name
        self._kind = np.dtype(dtype).newbyteorder("<")
        self._stream: BinaryIO | None = None
        self._digest, self.n_tokens = hashlib.sha256(), 0

    def add(self, ids: np.ndarray) -> None:
        """Append ids."""
        if not len(ids):
            return
        if self._stream is None:
            self._stream = open(self._path, "wb")  # noqa: SIM115
        data = ids.astype(self._kind, copy=False).tobytes()
        self._stream.write(data)
        self._digest.update(data)
        self.n_tokens += len(ids)

    def close(self) -> Shard:
        """Flush it to the disk; what it is now."""
        if self._stream is not None:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            self._stream = None
        return Shard(self._name, self.n_tokens, self._digest.hexdigest())


class PartWriter:
    """Writes one part.

    Args:
        folder: Where.
        index: Of the part.
        dtype: Of the ids.
    """

    def __init__(self, folder: str, index: int, dtype: str):
        self._folder, self._index = folder, index
        self._files = [ShardFile(folder, _shard_name(side, index), dtype) for side in SIDES]
        self._n_bytes, self._n_texts = [0, 0], [0, 0]

    def add(self, batch: Batch, ids: Ids) -> None:
        """Append a batch to both sides."""
        for side, file in enumerate(self._files):
            file.add(ids[side])
            self._n_bytes[side] += batch.n_bytes[side]
            self._n_texts[side] += batch.n_texts[side]

    def finish(self, end: PartEnd) -> Part:
        """Make it complete."""
        shards = [file.close() for file in self._files]
        counts = zip(shards, self._n_bytes, self._n_texts, strict=True)
        part = Part(end, [PartSide(*side) for side in counts])
        jsonio.write_record(_record_path(self._folder, self._index), PART_SCHEMA, part)
        return part

    def abandon(self) -> None:
        """Close the files; the part stays incomplete."""
        for file in self._files:
            file.close()


def complete_parts(folder: str) -> dict[int, Part]:
    """The parts of a folder that need not be made again, by their index."""
    found = {}
    for name in os.listdir(folder):
        match = re.fullmatch(r"part-(\d+)\.json", name)
        if match:
            try:
                part = jsonio.read_record(os.path.join(folder, name), PART_SCHEMA, Part)
            except FormatError:
                continue
            if all(_is_whole(folder, side.shard) for side in part.sides):
                found[int(match.group(1))] = part
    return found


def _is_whole(folder: str, shard: Shard) -> bool:
    path = os.path.join(folder, shard.name)
    if not shard.n_tokens:
        return True
    return os.path.isfile(path) and sha256_of(path) == shard.sha256


def _record_path(folder: str, index: int) -> str:
    return os.path.join(folder, f"part-{index:04d}.json")


def _shard_name(side: str, index: int) -> str:
    return f"train-{index:04d}.bin" if side == "train" else f"held-out-{index:04d}.bin"
