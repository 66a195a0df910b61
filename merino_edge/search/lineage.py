"""Who came from whom.

The one idea: every survivor ever is a row (its number, its parent's number, its genome), numbers
ascend, so an ancestor is a binary search away. What has no living descendant is dropped from time
to time, and memory stays in proportion to the population.
"""

from typing import NamedTuple

import numpy as np

_ROWS_BEFORE_PRUNING = 65_536


class Rows(NamedTuple):
    """n members that survived at least once.

    Attributes:
        number: (n,), the how manyeth candidate it was.
        parent: (n,), -1 for the first generation.
        born: (n,), its generation.
        genomes: (n, n_blocks, 3).
    """

    number: np.ndarray
    parent: np.ndarray
    born: np.ndarray
    genomes: np.ndarray

    def take(self, rows: np.ndarray) -> "Rows":
        """Some of them, in the order of ``rows``."""
        return Rows(*(column[rows] for column in self))

    def followed_by(self, *others: "Rows") -> "Rows":
        """These, then the others."""
        return Rows(*(np.concatenate(columns) for columns in zip(self, *others, strict=True)))


class Lineage:
    """The rows of all survivors that still matter, by ascending number."""

    def __init__(self, rows: Rows):
        self.rows = rows
        self._waiting: list[Rows] = []

    @classmethod
    def empty(cls, n_blocks: int) -> "Lineage":
        """No survivors yet."""
        none = np.empty(0, dtype=np.int64)
        return cls(Rows(none, none, none, np.empty((0, n_blocks, 3), dtype=np.int64)))

    def add(self, new: Rows, living: np.ndarray) -> None:
        """Take newcomers; ``living`` are the numbers of all survivors, newcomers included."""
        self._waiting.append(new)
        n_rows = len(self.rows.number) + sum(len(rows.number) for rows in self._waiting)
        if n_rows > _ROWS_BEFORE_PRUNING:
            self.prune(living)

    def prune(self, living: np.ndarray) -> None:
        """Keep the living and their ancestors."""
        rows = self._merged()
        keep = np.zeros(len(rows.number), dtype=bool)
        numbers = np.unique(living)
        while len(numbers):
            found = np.searchsorted(rows.number, numbers)
            found = found[~keep[found]]
            keep[found] = True
            numbers = np.unique(rows.parent[found])
            numbers = numbers[numbers >= 0]
        self.rows = rows.take(keep)

    def ancestors(self, number: int) -> Rows:
        """A survivor and its forefathers, oldest first."""
        rows, line = self._merged(), []
        while number >= 0:
            line.append(int(np.searchsorted(rows.number, number)))
            number = int(rows.parent[line[-1]])
        return rows.take(np.array(line[::-1]))

    def _merged(self) -> Rows:
        self.rows = self.rows.followed_by(*self._waiting)
        self._waiting = []
        return self.rows
