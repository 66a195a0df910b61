"""Passages that stand on both sides of the split: found by their tokens, dropped from the held-out.

The one idea: a run of 50 held-out tokens, wherever it begins, holds a whole window of 32 tokens
that begins at a multiple of 19. So it is enough to remember the hash of every nineteenth window of
the held-out side (0.42 bytes a token) and to hash every window of the training side against them.
A window that is found is dropped, so that no run of 50 tokens of the held-out side is left that
training could have learned by heart. A hash that agrees by chance drops a passage too many; none
is ever missed. Arrays in, places out: this module knows neither files nor texts.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

RUN_TOKENS = 50
WINDOW_TOKENS = 32
STRIDE = RUN_TOKENS - WINDOW_TOKENS + 1
_BLOCK = STRIDE << 14  # places hashed at once; a multiple of the stride
_FACTOR = 0x9E3779B97F4A7C15  # odd; a polynomial in it, modulo 2^64
_SIEVE_BITS = 24


class Ids(Protocol):
    """An array of ids, or what gives one slice by slice."""

    def __len__(self) -> int: ...

    def __getitem__(self, where: slice, /) -> np.ndarray: ...


class Span(NamedTuple):
    """Tokens from ``start`` to before ``stop``."""

    start: int
    stop: int


def window_hashes(ids: np.ndarray) -> np.ndarray:
    """Hash of the window that begins at each place, [n - 31] uint64; none if there is no window."""
    if len(ids) < WINDOW_TOKENS:
        return np.zeros(0, dtype=np.uint64)
    hashes = _mixed(ids)
    factor, width = _FACTOR, 1
    while width < WINDOW_TOKENS:  # two neighbours of one width make one of twice the width
        hashes = hashes[:-width] * np.uint64(factor) + hashes[width:]
        factor, width = factor * factor % (1 << 64), 2 * width
    return hashes


def _mixed(ids: np.ndarray) -> np.ndarray:
    """A number of 64 bits for each id (splitmix64)."""
    x = (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(_FACTOR)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _blocks(ids: Ids) -> Iterator[tuple[int, np.ndarray]]:
    """(first place, hashes of the windows that begin from there on), a block at a time."""
    for start in range(0, len(ids), _BLOCK):
        yield start, window_hashes(ids[start : start + _BLOCK + WINDOW_TOKENS - 1])


class HeldOutWindows:
    """Every nineteenth window of the held-out side, to be looked for in the training side.

    Args:
        held_out: Arrays of ids, each looked at by itself.
    """

    def __init__(self, held_out: Sequence[Ids]):
        self._held_out = held_out
        # Copies, since a slice would keep its whole block in memory.
        rows = [hashes[::STRIDE].copy() for ids in held_out for _, hashes in _blocks(ids)]
        self._hashes = np.unique(np.concatenate(rows)) if rows else np.zeros(0, np.uint64)
        self._is_found = np.zeros(max(len(self._hashes), 1), dtype=bool)
        # Most windows of the training side are sorted out by one look into a table.
        self._sieve = np.zeros(1 << _SIEVE_BITS, dtype=bool)
        self._sieve[self._place_in_sieve(self._hashes)] = True

    @staticmethod
    def _place_in_sieve(hashes: np.ndarray) -> np.ndarray:
        return (hashes >> np.uint64(64 - _SIEVE_BITS)).astype(np.int64)

    def look_in(self, ids: Ids) -> None:
        """Remember which of the windows stand in these ids; several threads may look at once."""
        for _, hashes in _blocks(ids):
            candidates = hashes[self._sieve[self._place_in_sieve(hashes)]]
            places, same = self._places(candidates)
            self._is_found[places[same]] = True

    def _places(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not len(self._hashes):
            return np.zeros(len(hashes), np.int64), np.zeros(len(hashes), bool)
        places = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return places, self._hashes[places] == hashes

    def kept_spans(self, index: int) -> Iterator[Span]:
        """What is left of one held-out array when the windows that were found are taken out."""
        ids = self._held_out[index]
        kept_from = 0
        for first, hashes in _blocks(ids):
            places, _ = self._places(hashes[::STRIDE])
            for start in (first + STRIDE * np.flatnonzero(self._is_found[places])).tolist():
                if start > kept_from:
                    yield Span(kept_from, start)
                kept_from = start + WINDOW_TOKENS
        if kept_from < len(ids):
            yield Span(kept_from, len(ids))
