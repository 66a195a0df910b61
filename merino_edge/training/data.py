"""Batches: which tokens step ``s`` sees, computed from (seed, s) and nothing else.

The one idea: the text is cut into windows end to end, and an epoch visits each window once in an
order that is a *function*: a keyed permutation (a Feistel network) gives the window at any place
without a list of all of them. So a run resumes at the exact next batch with no state but its
step, and memory does not grow with the corpus. Each epoch shifts the cuts by a phase of its own,
so that windows differ between epochs. It knows neither files nor torch.
"""

from collections.abc import Sequence

import numpy as np

from merino_edge.errors import SpecError

_N_ROUNDS = 4  # of the Feistel network; four pass as random (Luby and Rackoff, 1988)


class TokenStream:
    """Several arrays of ids, read as one."""

    def __init__(self, arrays: Sequence[np.ndarray]):
        self._arrays = list(arrays)
        self._ends = np.cumsum([len(array) for array in arrays])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, where: slice) -> np.ndarray:
        """A copy of a slice with step 1, also across files."""
        start, stop, _ = where.indices(len(self))
        parts = []
        while start < stop:
            index = int(np.searchsorted(self._ends, start, side="right"))
            begin = int(self._ends[index]) - len(self._arrays[index])
            end = min(stop, int(self._ends[index]))
            parts.append(self._arrays[index][start - begin : end - begin])
            start = end
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint16)


class Batches:
    """The batches of a run, by their step.

    Args:
        tokens: The training text.
        batch_size: Windows a batch.
        seq_len: Tokens a window.
        seed: Of the order.

    Raises:
        SpecError: The text is shorter than one window and its last target.
    """

    def __init__(self, tokens: TokenStream, batch_size: int, seq_len: int, seed: int):
        if len(tokens) < seq_len + 1:
            raise SpecError(
                f"the training text has {len(tokens)} tokens, seq_len {seq_len} needs"
                f" {seq_len + 1}.",
                hint="bring more text, or train with a smaller --seq-len.",
            )
        self._tokens, self._seed = tokens, seed
        self._batch_size, self._seq_len = batch_size, seq_len
        # One window less than would fit leaves the room in which the phase moves.
        self.windows_per_epoch = max(1, (len(tokens) - seq_len) // seq_len)
        self._spare = len(tokens) - 1 - self.windows_per_epoch * seq_len

    def at(self, step: int) -> np.ndarray:
        """Ids of one step, [batch_size, seq_len + 1] int64: inputs, and the targets one further."""
        places = step * self._batch_size + np.arange(self._batch_size)
        starts = [self._window_start(*divmod(int(p), self.windows_per_epoch)) for p in places]
        rows = [self._tokens[start : start + self._seq_len + 1] for start in starts]
        return np.stack(rows).astype(np.int64)

    def _window_start(self, epoch: int, place: int) -> int:
        rng = np.random.default_rng((self._seed, epoch))
        phase = int(rng.integers(self._spare + 1))
        keys = [int(key) for key in rng.integers(1 << 32, size=_N_ROUNDS)]
        return phase + permuted(place, self.windows_per_epoch, keys) * self._seq_len


def permuted(place: int, n: int, keys: Sequence[int]) -> int:
    """Where a keyed permutation of range(n) sends ``place``.

    A Feistel network permutes the next even power of two; a value that falls outside range(n) is
    sent on until it falls inside ("cycle walking"), which keeps it a permutation.
    """
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    while True:
        left, right = divmod(place, 1 << half)
        for key in keys:
            left, right = right, left ^ (_mix(right, key) & ((1 << half) - 1))
        place = (left << half) | right
        if place < n:
            return place


def _mix(value: int, key: int) -> int:
    """32 bits that depend on all bits of both (the finaliser of MurmurHash3)."""
    h = (value + key) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return h ^ (h >> 16)
