"""Entropy of a decoder: the objective of the search, from shapes alone.

The one idea: a random matrix W of shape (m, n) with unit Gaussian entries carries
``h = E log det(I + W W^T / eps^2)`` nats, which for wide matrices is a closed formula in m, n and
eps (the Marchenko-Pastur law; Verdu and Shamai 1999, for the capacity of random channels). A
network's entropy is the weighted sum over its matrices, each counted as often as it is applied.
Depth adds entropy without end, so the sum is multiplied by an *effectiveness* that falls with
``gamma = layers / geometric mean width`` and is zero at gamma0 (Roberts, Yaida and Hanin 2022:
the depth-to-width ratio governs how well a network can be trained).

After MeRino (arXiv 2403.07921). Its constants were not published where we could read them, so
eps = 1, alpha = (1, 1), this form of the factor and the limit on growth are our choices. Norms,
embeddings, joints and the softmax do not enter. Nothing here knows data, weights, budgets or a
device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log, sqrt
from typing import NamedTuple

import numpy as np

from merino_edge.errors import SpecError
from merino_edge.formats.architecture import Architecture, BlockSpec

FORMS = ("factor", "hard", "off", "literal")
EPS_MAX = 1e6  # beyond it, and below its reciprocal, rounding eats the closed form


@dataclass(frozen=True)
class EntropyConfig:
    """Constants of the objective.

    Attributes:
        alpha1: Weight of the attention matrices.
        alpha2: Weight of the feed-forward matrices.
        eps: Noise level of the rate: singular values far below it carry nothing.
        gamma0: Depth-to-width ratio at which effectiveness reaches zero.
        most_growth: A layer counts as no wider than so many times the embedding, whose width the
            logits cannot exceed; None for as wide as it is. That members far wider than their
            embedding train badly was measured (benchmarks/search/README.md).
        form: "factor": max(0, 1 - gamma/gamma0). "hard": 1 up to gamma0, then 0. "off": 1.
            "literal": max(0, 1 - gamma0 * gamma), the other reading of the paper.
    """

    alpha1: float = 1.0
    alpha2: float = 1.0
    eps: float = 1.0
    gamma0: float = 1.0 / 16.0
    form: str = "factor"
    most_growth: float | None = 2.0

    def __post_init__(self) -> None:
        if not 1.0 / EPS_MAX <= self.eps <= EPS_MAX:
            raise SpecError(f"is {self.eps}, must be from {1 / EPS_MAX} to {EPS_MAX}.", field="eps")
        if not 0.0 < self.gamma0 < float("inf"):
            raise SpecError(f"gamma0 is {self.gamma0}, must be above 0.")
        for name in ("alpha1", "alpha2"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise SpecError(f"{name} is {getattr(self, name)}, must not be negative.")
        if self.most_growth is not None and not 1.0 <= self.most_growth < float("inf"):
            raise SpecError(f"most_growth is {self.most_growth}, must be at least 1.")
        if self.form not in FORMS:
            raise SpecError(f"form is {self.form!r}, must be one of {', '.join(FORMS)}.")


class EntropyScore(NamedTuple):
    """What the search maximises, and where it comes from; entropies in nats.

    Attributes:
        raw: Weighted entropy of all matrices as often as they are applied.
        gamma: Layers divided by the geometric mean of their widths.
        effectiveness: Factor from 0 to 1 for that gamma.
        total: raw x effectiveness.
        per_block: The blocks' shares of ``raw``.
    """

    raw: float
    gamma: float
    effectiveness: float
    total: float
    per_block: tuple[float, ...]


@lru_cache(maxsize=65536)
def matrix_entropy(m: int, n: int, eps: float = 1.0) -> float:
    """E log det(I + W W^T / eps^2) of an (m, n) matrix with entries N(0, 1), in nats.

    The limit of large matrices and its first correction. At eps 1 within 0.02 % of the mean over
    thousands of draws from 64 x 64 on; without the correction it is high by 0.35 % there.

    Args:
        m: Rows.
        n: Columns; h(m, n) = h(n, m).
        eps: Noise level.
    """
    small, large = min(m, n), max(m, n)
    beta, snr = small / large, large / eps**2
    upper = sqrt(snr * (1.0 + sqrt(beta)) ** 2 + 1.0)
    lower = sqrt(snr * (1.0 - sqrt(beta)) ** 2 + 1.0)
    quarter = (upper - lower) ** 2 / 4.0
    per_column = beta * log(1.0 + snr - quarter) + log(1.0 + snr * beta - quarter) - quarter / snr
    # Finite size: the entries are real, and the spectrum has edges (Bai and Silverstein 2004).
    return large * per_column + log(2.0 * sqrt(upper * lower) / (upper + lower))


class MatrixUse(NamedTuple):
    """A matrix shape in a layer; the transposed shape has the same entropy.

    Attributes:
        m: Rows.
        n: Columns.
        times: Matrices of this shape that one application multiplies with.
    """

    m: int
    n: int
    times: int


def attention_matrices(block: BlockSpec) -> tuple[MatrixUse, ...]:
    """Queries and output, then keys and values, which grouped heads make smaller."""
    queries, keys = block.n_head * block.head_dim, block.n_kv_head * block.head_dim
    return MatrixUse(queries, block.d_model, 2), MatrixUse(keys, block.d_model, 2)


def ffn_matrices(block: BlockSpec, gated: bool) -> tuple[MatrixUse, ...]:
    """Up and down, and the gate if there is one."""
    return (MatrixUse(block.d_model, block.d_ff, 3 if gated else 2),)


def _entropy_of(matrices: Sequence[MatrixUse], eps: float) -> float:
    return sum(times * matrix_entropy(m, n, eps) for m, n, times in matrices)


def attention_entropy(block: BlockSpec, eps: float = 1.0) -> float:
    """Entropy of the query, key, value and output matrices, applied once; 4 h(E, E) without GQA."""
    return _entropy_of(attention_matrices(block), eps)


def ffn_entropy(block: BlockSpec, gated: bool, eps: float = 1.0) -> float:
    """Entropy of the two feed-forward matrices, or of three when gated, applied once."""
    return _entropy_of(ffn_matrices(block, gated), eps)


def layer_entropy(block: BlockSpec, gated: bool, config: EntropyConfig) -> float:
    """Weighted entropy of one application of a block, in nats."""
    attention = config.alpha1 * attention_entropy(block, config.eps)
    return attention + config.alpha2 * ffn_entropy(block, gated, config.eps)


def counted_block(block: BlockSpec, embed_dim: int, config: EntropyConfig) -> BlockSpec:
    """The block as wide as it counts: heads and feed-forward shrink with it.

    Args:
        block: As it is.
        embed_dim: Width of the embedding.
        config: Its ``most_growth`` is the limit.
    """
    limit = block.d_model if config.most_growth is None else config.most_growth * embed_dim
    if block.d_model <= limit:
        return block
    share = limit / block.d_model
    n_head = max(1, round(block.n_head * share))
    n_kv_head = max(1, round(block.n_kv_head * share))
    d_model, d_ff = round(limit), max(1, round(block.d_ff * share))
    return BlockSpec(d_model, n_head, n_kv_head, d_ff, block.depth)


def depth_width_ratio(widths: Sequence[int], depths: Sequence[int]) -> float:
    """Gamma: all layers divided by the geometric mean of their widths."""
    n_layers = sum(depths)
    log_sum = sum(depth * log(width) for width, depth in zip(widths, depths, strict=True))
    return n_layers / exp(log_sum / n_layers)


def effectiveness(gamma: "float | np.ndarray", config: EntropyConfig) -> "float | np.ndarray":
    """The factor for a depth-to-width ratio, or for an array of them."""
    if config.form == "factor":
        return np.maximum(0.0, 1.0 - gamma / config.gamma0)
    if config.form == "literal":
        return np.maximum(0.0, 1.0 - gamma * config.gamma0)
    within = np.less_equal(gamma, config.gamma0 if config.form == "hard" else np.inf)
    return np.where(within, 1.0, 0.0)


def network_entropy(a: Architecture, config: EntropyConfig | None = None) -> EntropyScore:
    """Score any decoder, ours or an imported one."""
    config = config or EntropyConfig()
    blocks = [counted_block(block, a.embed_dim, config) for block in a.blocks]
    per_block = tuple(b.depth * layer_entropy(b, a.gated_ffn, config) for b in blocks)
    gamma = depth_width_ratio([b.d_model for b in blocks], [b.depth for b in blocks])
    factor, raw = float(effectiveness(gamma, config)), sum(per_block)
    return EntropyScore(raw, gamma, factor, raw * factor, per_block)
