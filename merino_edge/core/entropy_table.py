"""The entropy of every matrix shape, as a table that can be exported and checked.

The one idea: a space of millions of decoders holds a hundred shapes of matrices, and ``entropy.py``
knows the mean of each in closed form. Here the same mean is *drawn*: log det(I + W W^T / eps^2) of
random matrices, once through a Cholesky factor of the smaller Gram matrix, and once, its slow
twin, through all singular values. Both draw the same matrices from the same seed, so they agree
to rounding; the closed form agrees with them to the spread of the draws.

A row's draws depend on the seed and its own shape only, never on the other rows. Nothing here
knows how often a matrix is applied or what it weighs: that is the network's entropy.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from merino_edge.core.entropy import (
    EntropyConfig,
    attention_matrices,
    ffn_matrices,
    matrix_entropy,
)
from merino_edge.core.space import SearchSpace
from merino_edge.errors import SpecError
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture, BlockSpec

SCHEMA = "merino-edge.entropy-table/1"
Shape = tuple[int, int]


class Estimate(NamedTuple):
    """A mean over draws, in nats.

    Attributes:
        mean: Of the draws.
        std: Their standard deviation with n - 1; None for a single draw.
        draws: How many.
    """

    mean: float
    std: float | None
    draws: int


class EntropyRow(NamedTuple):
    """One shape; the transposed shape has the same entropy. Entropies in nats.

    Attributes:
        m: The smaller side.
        n: The larger side.
        closed_form: ``entropy.matrix_entropy``.
        drawn_mean: Mean over the table's draws; None where nothing was drawn.
        drawn_std: Their standard deviation; None without two draws.
        relative_difference: closed_form / drawn_mean - 1; None where nothing was drawn.
    """

    m: int
    n: int
    closed_form: float
    drawn_mean: float | None = None
    drawn_std: float | None = None
    relative_difference: float | None = None


class EntropyTable(NamedTuple):
    """What the file holds.

    Attributes:
        eps: Noise level of the entropies.
        draws: Matrices drawn for each row; 0 for the closed form alone.
        seed: Of the draws.
        rows: Ascending, no shape twice.
    """

    eps: float
    draws: int
    seed: int
    rows: tuple[EntropyRow, ...]

    @property
    def largest_difference(self) -> float | None:
        """The largest relative difference of all rows, without its sign; None without draws."""
        found = [r.relative_difference for r in self.rows if r.relative_difference is not None]
        return max(map(abs, found), default=None)


def monte_carlo(m: int, n: int, eps: float, draws: int, seed: int) -> Estimate:
    """Mean of log det(I + W W^T / eps^2) over random W of shape (m, n), by Cholesky.

    Raises:
        SpecError: No draws, or a seed below 0.
    """
    return _estimate(_log_det(w, eps) for w in _matrices(m, n, draws, seed))


def by_svd(m: int, n: int, eps: float, draws: int, seed: int) -> Estimate:
    """The same mean over the same draws, as its definition says: by all singular values.

    Raises:
        SpecError: No draws, or a seed below 0.
    """
    return _estimate(_log_det_by_svd(w, eps) for w in _matrices(m, n, draws, seed))


def space_shapes(space: SearchSpace) -> tuple[Shape, ...]:
    """Every matrix shape that a member can have: (E, E) and (E, round(R E)); no shape twice."""
    pairs = [(width, ratio) for width in space.d_models for ratio in space.ffn_ratios]
    return _shapes((space.block(*pair, depth=1) for pair in pairs), space.gated_ffn)


def architecture_shapes(a: Architecture) -> tuple[Shape, ...]:
    """Every matrix shape that enters a decoder's entropy; no shape twice."""
    return _shapes(a.blocks, a.gated_ffn)


def entropy_table(
    shapes: Iterable[Shape],
    eps: float = 1.0,
    draws: int = 0,
    seed: int = 0,
    on_row: Callable[[EntropyRow], None] = lambda row: None,
) -> EntropyTable:
    """Tabulate some shapes, in the order given.

    Args:
        shapes: Such as ``space_shapes(space)``.
        eps: Noise level.
        draws: Matrices to draw for each shape; 0 for the closed form alone.
        seed: Of the draws.
        on_row: Told of each row when it is there.

    Raises:
        SpecError: ``eps``, ``draws`` or ``seed`` is out of range.
    """
    EntropyConfig(eps=eps)
    rows = []
    for m, n in shapes:
        rows.append(_row(m, n, eps, draws, seed))
        on_row(rows[-1])
    return EntropyTable(eps, draws, seed, tuple(rows))


def write_entropy_table(path: str, table: EntropyTable) -> None:
    """Write a table, atomically.

    Raises:
        OSError: It cannot be written; an old file is untouched.
    """
    jsonio.write_record(path, SCHEMA, table)


def read_entropy_table(path: str) -> EntropyTable:
    """Read a table back.

    Raises:
        FormatError: Not such a file; names the field.
        SchemaVersionError: Written by a version with another schema.
    """
    return jsonio.read_record(path, SCHEMA, EntropyTable)


def _shapes(blocks: Iterable[BlockSpec], gated: bool) -> tuple[Shape, ...]:
    uses = [use for b in blocks for use in attention_matrices(b) + ffn_matrices(b, gated)]
    return tuple(sorted({(min(use.m, use.n), max(use.m, use.n)) for use in uses}))


def _row(m: int, n: int, eps: float, draws: int, seed: int) -> EntropyRow:
    closed_form = matrix_entropy(m, n, eps)
    if not draws:
        return EntropyRow(m, n, closed_form)
    drawn = monte_carlo(m, n, eps, draws, seed)
    return EntropyRow(m, n, closed_form, drawn.mean, drawn.std, closed_form / drawn.mean - 1.0)


def _matrices(m: int, n: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """The draws, one in memory at a time, always (smaller side, larger side)."""
    for name, value, least in (("draws", draws, 1), ("seed", seed, 0)):
        if value < least:
            raise SpecError(f"is {value}, must be at least {least}.", field=name)
    shape = min(m, n), max(m, n)
    rng = np.random.default_rng((seed, *shape))
    for _ in range(draws):
        yield rng.standard_normal(shape)


def _log_det(w: np.ndarray, eps: float) -> float:
    gram = w @ w.T / eps**2
    gram.flat[:: len(gram) + 1] += 1.0  # the diagonal
    # det(L L^T) is the square of the product of L's diagonal.
    return 2.0 * float(np.log(np.linalg.cholesky(gram).diagonal()).sum())


def _log_det_by_svd(w: np.ndarray, eps: float) -> float:
    singular = np.linalg.svd(w, compute_uv=False)
    return float(np.log1p((singular / eps) ** 2).sum())


def _estimate(values: Iterable[float]) -> Estimate:
    drawn = np.fromiter(values, dtype=np.float64)
    std = float(drawn.std(ddof=1)) if len(drawn) > 1 else None
    return Estimate(float(drawn.mean()), std, len(drawn))
