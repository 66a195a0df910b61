"""The last look at both sides together: what the held-out side may keep, and what each amounts to.

The one idea: only when every part is there can one say what stands on both sides. Training shards
are scanned one a thread (numpy lets go of Python's lock), the held-out windows that were found are
dropped, and what is left becomes ``val-0000.bin`` and so on. Where something was taken out of a
text, an end-of-text id says so.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from merino_edge.errors import SpecError
from merino_edge.training.batcher import SIDES, TRAIN, VAL
from merino_edge.training.overlap import RUN_TOKENS, HeldOutWindows, Ids, Span
from merino_edge.training.parts import Part, ShardFile
from merino_edge.training.token_folder import IdsOnDisk, Overlap, Shard
from merino_edge.training.tokenizer import bytes_of_tokens

SHARD_TOKENS = 1 << 27  # of the held-out side: 268 MB a file of uint16
_COPY_TOKENS = 1 << 20


class Sides(NamedTuple):
    """Both sides of a corpus, written.

    Attributes:
        train, val: Files.
        n_bytes: UTF-8 bytes of the texts behind them.
        n_texts: Texts before anything was dropped.
        overlap: What was dropped.
    """

    train: list[Shard]
    val: list[Shard]
    n_bytes: list[int]
    n_texts: list[int]
    overlap: Overlap


def written_sides(
    folder: str,
    parts: list[Part],
    dtype: str,
    tokenizer: Tokenizer,
    end_of_text: int,
    workers: int,
    shard_tokens: int = SHARD_TOKENS,
) -> Sides:
    """Write the held-out shards without what training holds too.

    Args:
        folder: Of the parts, and of what is written.
        parts: All of them, complete.
        dtype: Of the ids.
        tokenizer: Tells how many bytes were dropped.
        end_of_text: Its id for that.
        workers: Threads.
        shard_tokens: Held-out tokens a file.

    Raises:
        SpecError: A side is empty, or nothing of the held-out one may be kept.
    """
    files = [[p.sides[s].shard for p in parts if p.sides[s].shard.n_tokens] for s in (TRAIN, VAL)]
    n_bytes = [sum(p.sides[s].n_bytes for p in parts) for s in (TRAIN, VAL)]
    n_texts = [sum(p.sides[s].n_texts for p in parts) for s in (TRAIN, VAL)]
    _refuse_empty(files, n_bytes)
    held_out = [IdsOnDisk(folder, shard, dtype) for shard in files[VAL]]
    windows = HeldOutWindows(held_out)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(windows.look_in, (IdsOnDisk(folder, s, dtype) for s in files[TRAIN])))
    writer = _ValWriter(folder, dtype, shard_tokens, end_of_text, tokenizer.get_vocab_size())
    for index, ids in enumerate(held_out):
        _write_kept(ids, windows.kept_spans(index), writer)
    val = writer.close()
    overlap = _overlap(writer, tokenizer)
    n_bytes[VAL] -= overlap.dropped_bytes
    if overlap.dropped_tokens and sum(shard.n_tokens for shard in val) < RUN_TOKENS:
        raise SpecError(
            "the held-out text stands in the training text too.",
            note=f"{overlap.dropped_tokens} of its tokens, in runs of {RUN_TOKENS} and more.",
            hint="bring text that repeats itself less.",
        )
    return Sides(files[TRAIN], val, n_bytes, n_texts, overlap)


def _write_kept(ids: Ids, spans: Iterable[Span], writer: "_ValWriter") -> None:
    done = 0
    for start, stop in spans:
        for block in _blocks(ids, done, start):
            writer.drop(block)
        for block in _blocks(ids, start, stop):
            writer.keep(block)
        done = stop
    for block in _blocks(ids, done, len(ids)):
        writer.drop(block)


def _overlap(writer: "_ValWriter", tokenizer: Tokenizer) -> Overlap:
    lengths = np.array(bytes_of_tokens(tokenizer), dtype=np.int64)
    n_bytes = int((writer.dropped * lengths).sum())
    return Overlap(RUN_TOKENS, int(writer.dropped.sum()), n_bytes)


def _refuse_empty(files: list[list[Shard]], n_bytes: list[int]) -> None:
    for side, name in enumerate(SIDES):
        if not files[side]:
            raise SpecError(
                f"the {name} part of the corpus is empty.",
                note=f"training got {n_bytes[TRAIN]} bytes, {n_bytes[VAL]} were held out.",
                hint="bring more text, or hold out another part with --val-fraction.",
            )


def _blocks(ids: Ids, start: int, stop: int) -> Iterator[np.ndarray]:
    for begin in range(start, stop, _COPY_TOKENS):
        yield ids[begin : min(begin + _COPY_TOKENS, stop)]


class _ValWriter:
    """Appends to ``val-0000.bin`` and so on, and counts what is left out.

    Attributes:
        dropped: How often each id was dropped.
    """

    def __init__(self, folder: str, dtype: str, shard_tokens: int, end: int, vocab_size: int):
        self._folder, self._dtype, self._shard_tokens = folder, dtype, shard_tokens
        self._end = np.array([end], dtype=dtype)
        self._last, self._after_gap = end, False
        self._shards: list[Shard] = []
        self._file: ShardFile | None = None
        self.dropped = np.zeros(vocab_size, dtype=np.int64)

    def drop(self, ids: np.ndarray) -> None:
        """Leave ids out."""
        self.dropped += np.bincount(ids, minlength=len(self.dropped))
        self._after_gap = True

    def keep(self, ids: np.ndarray) -> None:
        """Append ids; after a gap the text before it ends, once."""
        if self._after_gap:
            if self._last != self._end[0]:
                self._append(self._end)
            if ids[0] == self._end[0]:
                ids = ids[1:]
        self._after_gap = False
        self._append(ids)

    def _append(self, ids: np.ndarray) -> None:
        while len(ids):
            if self._file is None:
                name = f"val-{len(self._shards):04d}.bin"
                self._file = ShardFile(self._folder, name, self._dtype)
            room = self._shard_tokens - self._file.n_tokens
            self._file.add(ids[:room])
            self._last, ids = int(ids[:room][-1]), ids[room:]
            if self._file.n_tokens == self._shard_tokens:
                self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._shards.append(self._file.close())
            self._file = None

    def close(self) -> list[Shard]:
        """Flush; the files."""
        self._close_file()
        return self._shards
