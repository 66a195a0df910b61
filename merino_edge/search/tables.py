"""Costs and entropies of whole populations, as table look-ups and sums.

The one idea: every cost of a decoder is a sum over its blocks, its joints and its two ends. So
each block (width, ratio, depth), each pair of neighbouring widths and each pair of ends is priced
once, by ``core.cost.Pricing``, and a population becomes a handful of array operations. The same
tables are what ``search.exact`` bounds the space with. ``Pricing.price`` and ``network_entropy``
are the slow twins, and a test holds both to equality on random members.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from merino_edge.core.cost import Pricing
from merino_edge.core.entropy import (
    EntropyConfig,
    counted_block,
    effectiveness,
    layer_entropy,
)
from merino_edge.core.space import DEPTH, RATIO, WIDTH, SearchSpace
from merino_edge.formats.architecture import BlockSpec


class CostArrays(NamedTuple):
    """Costs of n architectures, arrays of shape (n,) under the names of ``CostReport``."""

    n_params: np.ndarray
    prefill_flops: np.ndarray
    decode_flops_per_token: np.ndarray
    peak_memory_bytes: np.ndarray
    latency_ms: np.ndarray | None = None
    prefill_ms: np.ndarray | None = None
    energy_mj_per_token: np.ndarray | None = None
    latency_high_ms: np.ndarray | None = None
    prefill_high_ms: np.ndarray | None = None


class EntropyArrays(NamedTuple):
    """Entropies of n architectures, arrays of shape (n,) under the names of ``EntropyScore``."""

    raw: np.ndarray
    gamma: np.ndarray
    effectiveness: np.ndarray
    total: np.ndarray


@dataclass(frozen=True)
class Tables:
    """Prices of the parts. W widths, R ratios, D depths, C fields of ``core.cost.PartCost``.

    F first widths: W where the entropy of a block depends on the first one's width
    (``EntropyConfig.most_growth``), else 1.

    Attributes:
        space: What may be chosen.
        pricing: Where, at which work point, and where milliseconds come from.
        entropy_config: Constants of the objective.
        width: (W,) and ``depth``: (D,) are the choices themselves.
        block: (W, R, D, C), one block.
        joint: (W, W, C), from a width to the next; zero for equal ones.
        ends: (W, W, C), by the first and the last width.
        activation_bytes: (W, R), of one application.
        entropy: (F, W, R), of one application.
        log_width: (F, W), of the width as it counts.
    """

    space: SearchSpace
    pricing: Pricing
    entropy_config: EntropyConfig
    width: np.ndarray
    depth: np.ndarray
    block: np.ndarray
    joint: np.ndarray
    ends: np.ndarray
    activation_bytes: np.ndarray
    entropy: np.ndarray
    log_width: np.ndarray

    @classmethod
    def build(cls, space: SearchSpace, pricing: Pricing, entropy_config: EntropyConfig) -> "Tables":
        """Price every part of a space once."""
        widths, depth = space.d_models, np.array(space.depths)
        blocks = [[space.block(width, ratio, 1) for ratio in space.ffn_ratios] for width in widths]
        alone = [[space.architecture((block,)) for block in row] for row in blocks]
        pairs = [[space.architecture((first[0], last[0])) for last in blocks] for first in blocks]
        joint = np.array([[pricing.joint(a, b) for b in widths] for a in widths], dtype=np.float64)
        joint[np.arange(len(widths)), np.arange(len(widths))] = 0.0
        first, again = np.moveaxis(
            np.array([[pricing.block(a, 0) for a in row] for row in alone], dtype=np.float64), 2, 0
        )
        return cls(
            space=space,
            pricing=pricing,
            entropy_config=entropy_config,
            width=np.array(widths),
            depth=depth,
            block=first[:, :, None] + (depth - 1)[:, None] * again[:, :, None],
            joint=joint,
            ends=np.array([[pricing.ends(a) for a in row] for row in pairs], dtype=np.float64),
            activation_bytes=np.array([[pricing.activation_bytes(a, 0) for a in r] for r in alone]),
            **_entropy_tables(blocks, space, entropy_config),
        )

    def first(self, width: np.ndarray) -> np.ndarray:
        """Rows of the tables by first width, for first widths (...)."""
        return width if len(self.entropy) > 1 else np.zeros_like(width)

    def entropies(self, genomes: np.ndarray) -> EntropyArrays:
        """Score a population, shape (n, n_blocks, 3)."""
        width, ratio = genomes[:, :, WIDTH], genomes[:, :, RATIO]
        depth = self.depth[genomes[:, :, DEPTH]]
        first = self.first(width[:, :1])
        raw = (depth * self.entropy[first, width, ratio]).sum(axis=1)
        n_layers = depth.sum(axis=1)
        mean_log = (depth * self.log_width[first, width]).sum(axis=1) / n_layers
        gamma = n_layers / np.exp(mean_log)
        factor = np.asarray(effectiveness(gamma, self.entropy_config))
        return EntropyArrays(raw, gamma, factor, raw * factor)

    def costs(self, genomes: np.ndarray) -> CostArrays:
        """Price a population, shape (n, n_blocks, 3)."""
        width, ratio, depth = (genomes[:, :, gene] for gene in (WIDTH, RATIO, DEPTH))
        totals = self.ends[width[:, 0], width[:, -1]]
        totals = totals + self.block[width, ratio, depth].sum(axis=1)
        totals += self.joint[width[:, :-1], width[:, 1:]].sum(axis=1)
        activation_bytes = self.activation_bytes[width, ratio].max(axis=1)
        return CostArrays(**self.pricing.costs(totals, activation_bytes))


def _entropy_tables(
    blocks: list[list[BlockSpec]], space: SearchSpace, config: EntropyConfig
) -> dict[str, np.ndarray]:
    """``entropy`` and ``log_width`` of the tables."""
    ends = space.d_models[:1] if config.most_growth is None else space.d_models
    counted = [[[counted_block(b, end, config) for b in row] for row in blocks] for end in ends]
    return {
        "entropy": np.array(
            [
                [[layer_entropy(b, space.gated_ffn, config) for b in row] for row in rows]
                for rows in counted
            ]
        ),
        "log_width": np.log([[row[0].d_model for row in rows] for rows in counted]),
    }
