"""Costs and entropies of whole populations, as table look-ups and sums.

The one idea: every cost of a decoder is a sum over its blocks, plus what its two ends and its
joints add. So each (width, ratio) of the space is priced once, by the very functions of ``core``
on a decoder of one block, and a population becomes a handful of array operations. Only the sums
are written here; ``core.cost.price`` and ``core.entropy.network_entropy`` are the slow twins, and
a test holds both to equality on random members.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from merino_edge.core import counting
from merino_edge.core.cost import WorkPoint, roofline_ms
from merino_edge.core.entropy import EntropyConfig, effectiveness, layer_entropy
from merino_edge.core.space import DEPTH, RATIO, WIDTH, SearchSpace
from merino_edge.core.targets import Target
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.weights import weight_shapes


class CostArrays(NamedTuple):
    """Costs of n architectures, arrays of shape (n,) under the names of ``CostReport``."""

    n_params: np.ndarray
    prefill_flops: np.ndarray
    decode_flops_per_token: np.ndarray
    peak_memory_bytes: np.ndarray
    latency_ms: np.ndarray | None


class EntropyArrays(NamedTuple):
    """Entropies of n architectures, arrays of shape (n,) under the names of ``EntropyScore``."""

    raw: np.ndarray
    gamma: np.ndarray
    effectiveness: np.ndarray
    total: np.ndarray


@dataclass(frozen=True)
class Tables:
    """Prices of the parts. W widths, R ratios, D depths.

    Attributes:
        width: (W,) and ``depth``: (D,) are the choices themselves.
        matrix_params: (W, R), one block's matrices and their biases.
        macs: (W, R), one application, one token, without attention scores.
        entropy: (W, R), one application.
        norm_params: (W,), the two norms of one application.
        head_params: (W,), embeddings, positions and head over a first block of that width.
        tail_params: (W,), the final norm.
        score_macs: (W,), one application, one query, one key.
        kv_values: (W,), keys and values of one token and one application.
    """

    space: SearchSpace
    target: Target
    at: WorkPoint
    entropy_config: EntropyConfig
    width: np.ndarray
    depth: np.ndarray
    matrix_params: np.ndarray
    macs: np.ndarray
    entropy: np.ndarray
    norm_params: np.ndarray
    head_params: np.ndarray
    tail_params: np.ndarray
    score_macs: np.ndarray
    kv_values: np.ndarray

    @classmethod
    def build(
        cls, space: SearchSpace, target: Target, at: WorkPoint, entropy_config: EntropyConfig
    ) -> "Tables":
        """Price every (width, ratio) of a space once."""
        probes = [
            [space.architecture((space.block(width, ratio, 1),)) for ratio in space.ffn_ratios]
            for width in space.d_models
        ]

        def table(price: Callable[[Architecture], float]) -> np.ndarray:
            return np.array([[price(probe) for probe in row] for row in probes])

        def column(price: Callable[[Architecture], float]) -> np.ndarray:
            return np.array([price(row[0]) for row in probes])

        return cls(
            space=space,
            target=target,
            at=at,
            entropy_config=entropy_config,
            width=np.array(space.d_models),
            depth=np.array(space.depths),
            matrix_params=table(lambda a: counting.block_matrix_params(a, 0)),
            macs=table(counting.linear_macs_per_token),
            entropy=table(lambda a: layer_entropy(a.blocks[0], a.gated_ffn, entropy_config)),
            norm_params=column(lambda a: _params_under(a, "blocks.0.norms.")),
            head_params=column(lambda a: _params_under(a, "embed.", "pos_embed.", "head.")),
            tail_params=column(lambda a: _params_under(a, "final_norm.")),
            score_macs=column(lambda a: counting.attention_macs(a, 1, 1)),
            kv_values=column(lambda a: counting.kv_bytes_per_token(a, 1)),
        )

    def entropies(self, genomes: np.ndarray) -> EntropyArrays:
        """Score a population, shape (n, n_blocks, 3)."""
        width, ratio, depth = self._genes(genomes)
        raw = (depth * self.entropy[width, ratio]).sum(axis=1)
        n_layers = depth.sum(axis=1)
        mean_log = (depth * np.log(self.width)[width]).sum(axis=1) / n_layers
        gamma = n_layers / np.exp(mean_log)
        factor = np.asarray(effectiveness(gamma, self.entropy_config))
        return EntropyArrays(raw, gamma, factor, raw * factor)

    def costs(self, genomes: np.ndarray) -> CostArrays:
        """Price a population, shape (n, n_blocks, 3)."""
        width, ratio, depth = self._genes(genomes)
        joints, head_joint = self._joints(width)
        matrices = self.matrix_params[width, ratio]
        ends = self.head_params[width[:, 0]] + self.tail_params[width[:, -1]]
        norms = (depth * self.norm_params[width]).sum(axis=1)
        n_params = matrices.sum(axis=1) + norms + joints + head_joint + ends
        macs = (depth * self.macs[width, ratio]).sum(axis=1) + joints
        scores = (depth * self.score_macs[width]).sum(axis=1)
        prompt, context = self.at.prompt_len, self.at.context_len
        logits = head_joint + self.space.vocab_size * self.width[width[:, 0]]
        kv_bytes = (depth * self.kv_values[width]).sum(axis=1) * self.target.bytes_per_value
        weight_bytes = np.ceil(n_params * self.target.bytes_per_weight).astype(np.int64)
        return CostArrays(
            n_params=n_params,
            prefill_flops=2 * (prompt * macs + prompt * prompt * scores),
            decode_flops_per_token=2 * (macs + context * scores + logits),
            peak_memory_bytes=weight_bytes + (context + 1) * kv_bytes,
            latency_ms=self._latency_ms(width, depth, matrices, joints, kv_bytes),
        )

    def _latency_ms(
        self,
        width: np.ndarray,
        depth: np.ndarray,
        matrices: np.ndarray,
        joints: np.ndarray,
        kv_bytes: np.ndarray,
    ) -> np.ndarray | None:
        bytes_per_weight = self.target.bytes_per_weight
        stays = matrices * bytes_per_weight <= self.target.block_cache_bytes
        read = (matrices * np.where(stays, 1, depth)).sum(axis=1)
        read = read + joints + self.space.vocab_size * self.width[width[:, 0]]
        traffic = read * bytes_per_weight + self.at.context_len * kv_bytes
        latency_ms = roofline_ms(traffic, self.target)
        return None if latency_ms is None else np.asarray(latency_ms)

    def _genes(self, genomes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Width indices, ratio indices and depths (not indices), each (n, n_blocks)."""
        return genomes[:, :, WIDTH], genomes[:, :, RATIO], self.depth[genomes[:, :, DEPTH]]

    def _joints(self, width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parameters of the joints between blocks, and of the one back to the embedding, (n,)."""
        d_model = self.width[width]
        before, after = d_model[:, :-1], d_model[:, 1:]
        first, last = d_model[:, 0], d_model[:, -1]
        joints = np.where(before != after, before * after, 0).sum(axis=1)
        return joints, np.where(first != last, first * last, 0)


def _params_under(a: Architecture, *prefixes: str) -> int:
    shapes = weight_shapes(a).items()
    return sum(prod(shape) for name, shape in shapes if name.startswith(prefixes))
