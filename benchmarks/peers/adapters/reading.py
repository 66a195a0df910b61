"""A runtime that computes nothing: it only reads the bytes that a step of ours must read.

The one idea: the roofline is a contestant. It has a working set of the model's size, cut as the
model is cut: a shared block is read as often as it is applied, so that what a cache keeps of it
counts here as it does for the decoder. Each of the threads reads its half by matrix-vector products
of float32, which numpy hands to BLAS without holding the interpreter.
"""

import threading
import time
from collections.abc import Sequence

import numpy as np

from adapters import seam

N_COLUMNS = 1024  # a row and the vector stay in the nearest cache
TOKENS_A_CALL = 8  # so that waking a thread, some 30 us, is no part of the time


class Runtime(seam.Runtime):
    """Buffers, and threads that read them.

    Args:
        path: Unused: nothing is loaded.
        threads: That read.
        parts: (bytes, times that a step reads them), in the order of the model.
        kv_bytes_per_token: Of the cache.
        context_len: Positions of the cache.
    """

    def __init__(
        self,
        path: str,
        threads: int,
        parts: list[list[int]],
        kv_bytes_per_token: int,
        context_len: int,
    ):
        self._position = 0
        self._kv_rows = kv_bytes_per_token / (4 * N_COLUMNS) / threads
        self._shares = [
            [(_matrix(n_bytes // threads), times) for n_bytes, times in parts]
            for _ in range(threads)
        ]
        kv_bytes = kv_bytes_per_token * context_len // threads
        self._caches = [_matrix(kv_bytes) for _ in range(threads)]
        self._vector = np.ones(N_COLUMNS, np.float32)
        self._barrier = threading.Barrier(threads)
        for index in range(1, threads):
            threading.Thread(target=self._serve, args=(index,), daemon=True).start()

    def prefill(self, ids: Sequence[int]) -> int:
        """Nothing is computed; later steps read the cache up to here."""
        self._position += len(ids)
        return 0

    def timed_decode(self, ids: Sequence[int]) -> list[float]:
        """Several steps in one go, at the position of their middle; the mean for each of them."""
        found: list[float] = []
        for start in range(0, len(ids), TOKENS_A_CALL):
            n = len(ids[start : start + TOKENS_A_CALL])
            self._position += n // 2
            self._barrier.wait()
            began = time.perf_counter()
            self._read(0)
            self._barrier.wait()
            found += [1e3 * (time.perf_counter() - began) / TOKENS_A_CALL] * n
            self._position += n - n // 2
        return found

    def decode(self, token_id: int) -> int:
        """One of ``timed_decode``."""
        self.timed_decode([token_id])
        return 0

    def reset(self) -> None:
        """To the beginning."""
        self._position = 0

    def describe(self) -> str:
        """What reads."""
        return f"numpy {np.__version__}, float32 matrix-vector products"

    def _serve(self, index: int) -> None:
        while True:
            self._barrier.wait()
            self._read(index)
            self._barrier.wait()

    def _read(self, index: int) -> None:
        n_rows = int(self._position * self._kv_rows)
        for _ in range(TOKENS_A_CALL):
            for matrix, times in self._shares[index]:
                for _ in range(times):
                    matrix.dot(self._vector)
            self._caches[index][:n_rows].dot(self._vector)


def _matrix(n_bytes: int) -> np.ndarray:
    return np.ones((max(1, n_bytes // (4 * N_COLUMNS)), N_COLUMNS), np.float32)
