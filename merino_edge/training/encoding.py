"""Batches of text -> ids, by several processes, in the order in which they were read.

The one idea: at most a few batches a worker are on their way, so the reader waits for the workers
and the workers for the writer, and memory does not grow with the corpus. Processes, not the
threads of the `tokenizers` library: on two cores those gave 0.48 M tokens/s where two processes
gave 0.92 (one of either 0.37 to 0.43; SmolLM2's tokenizer), since the ids become Python objects
under one lock, and the threads share one cache of words.
"""

import collections
import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait

import numpy as np
from tokenizers import Tokenizer

from merino_edge.errors import MerinoError
from merino_edge.training.batcher import SIDES, Batch, Piece

Ids = tuple[np.ndarray, ...]  # of one batch, by side
_BATCHES_PER_WORKER = 3


class Encoder:
    """Text to ids.

    Args:
        tokenizer_json: The tokenizer.
        end_of_text: Id after each text.
        dtype: Of the ids, "uint16" or "uint32".
    """

    def __init__(self, tokenizer_json: str, end_of_text: int, dtype: str):
        tokenizer = Tokenizer.from_str(tokenizer_json)
        # The fast one leaves out offsets, which nobody reads here; old versions lack it.
        self._encode = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
        self._end = np.array([end_of_text], dtype=dtype)
        self._dtype = dtype

    def ids(self, pieces: list[Piece]) -> Ids:
        """The ids of a batch, by side."""
        encodings = self._encode([piece.text for piece in pieces], add_special_tokens=False)
        rows: list[list[np.ndarray]] = [[] for _ in SIDES]
        for piece, encoding in zip(pieces, encodings, strict=True):
            rows[piece.side].append(np.array(encoding.ids, dtype=self._dtype))
            if piece.ends_text:
                rows[piece.side].append(self._end)
        empty = np.zeros(0, dtype=self._dtype)
        return tuple(np.concatenate(row) if row else empty for row in rows)


def encoded(
    batches: Iterable[Batch], tokenizer_json: str, end_of_text: int, dtype: str, workers: int
) -> Iterator[tuple[Batch, Ids]]:
    """Each batch with its ids, in order.

    Args:
        batches: Read no faster than they are tokenised.
        tokenizer_json: The tokenizer.
        end_of_text: Id after each text.
        dtype: Of the ids.
        workers: Processes; 1 does the work in this one. A script that asks for more needs the
            usual ``if __name__ == "__main__":``, since each worker is a fresh Python.

    Raises:
        MerinoError: A worker ended too early.
    """
    if workers == 1:
        encoder = Encoder(tokenizer_json, end_of_text, dtype)
        for batch in batches:
            yield batch, encoder.ids(batch.pieces)
        return
    with _pool(workers, tokenizer_json, end_of_text, dtype) as pool:
        waiting: collections.deque[tuple[Batch, Future[Ids]]] = collections.deque()
        for batch in batches:
            waiting.append((batch, _submitted(pool, batch.pieces)))
            if len(waiting) >= _BATCHES_PER_WORKER * workers:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)


def _submitted(pool: ProcessPoolExecutor, pieces: list[Piece]) -> "Future[Ids]":
    with _told_if_killed():
        return pool.submit(_ids_in_worker, pieces)


def _first(waiting: "collections.deque[tuple[Batch, Future[Ids]]]") -> tuple[Batch, Ids]:
    batch, future = waiting.popleft()
    with _told_if_killed():
        return batch, future.result()


@contextlib.contextmanager
def _told_if_killed() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise MerinoError(
            "a worker that tokenises ended too early.",
            note="its last words, if it had any, stand above; the system kills processes when"
            " memory runs out. Complete shards are kept.",
            hint="the same command continues; add --workers 1 to use less memory.",
        ) from error


@contextlib.contextmanager
def _pool(
    workers: int, tokenizer_json: str, end_of_text: int, dtype: str
) -> Iterator[ProcessPoolExecutor]:
    # A forked child would inherit the threads' locks of torch and tokenizers: start afresh. The
    # tokenizer goes there as a file: Python waits forever to hand more than 64 kB to a child that
    # dies as it starts.
    fresh = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "tokenizer.json")
        with open(file, "w", encoding="utf-8") as stream:
            stream.write(tokenizer_json)
        pool = ProcessPoolExecutor(workers, fresh, _begin_worker, (file, end_of_text, dtype))
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_encoder: Encoder | None = None  # of a worker process


def _begin_worker(tokenizer_file: str, end_of_text: int, dtype: str) -> None:
    """Prepare a worker: one thread, deaf to Ctrl-C (its parent is not), gone with its parent."""
    global _encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with open(tokenizer_file, encoding="utf-8") as stream:
        _encoder = Encoder(stream.read(), end_of_text, dtype)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _ids_in_worker(pieces: list[Piece]) -> Ids:
    assert _encoder is not None
    return _encoder.ids(pieces)
