"""What an architecture costs on a target: everything that a budget can ask about.

The one idea: every cost is a sum over the parts of a decoder (blocks, joints, its two ends), but
for the activations, of which the largest counts. ``Pricing`` knows the parts. ``price`` adds up
those of one architecture; the search looks the same parts up in tables, for whole populations;
and what both add up is turned into a report by the same few lines.

Latency and energy are *predictions*, and the report says on what basis. Energy is the target's
power limit times the latency; memory leaves out the runtime's own.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from merino_edge.core import counting
from merino_edge.core.latency import (
    LatencyModel,
    Part,
    Roofline,
    head_part,
    joint_part,
    layer_part,
)
from merino_edge.core.targets import Target
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.weights import weight_shapes


class WorkPoint(NamedTuple):
    """The point at which costs are quoted.

    Attributes:
        prompt_len: Tokens of the prompt whose FLOPs (body only) are counted.
        context_len: Tokens in the cache, for memory, decode FLOPs, latency and energy.
        tokens_per_reference: Generated tokens that count as one. 1, unless vocabularies are
            compared: a token of a smaller one carries less text, so more of them are needed.
    """

    prompt_len: int = counting.PAPER_SEQ_LEN
    context_len: int = counting.PAPER_SEQ_LEN
    tokens_per_reference: float = 1.0

    @property
    def longest_prompt(self) -> int:
        """Tokens of the prompt whose latency and activations are counted: it must fit."""
        return min(self.prompt_len, self.context_len)


class CostReport(NamedTuple):
    """Costs of one architecture on one target at one work point.

    Attributes:
        n_params: Stored parameters, shared ones once, embeddings included.
        weight_bytes: Of the stored parameters in the target's precision.
        kv_bytes_per_token: Keys and values that one token adds.
        activation_bytes: The widest point of the longest prompt's layers.
        prefill_flops: Of the prompt, body only.
        decode_flops_per_token: At the full context, head included.
        peak_memory_bytes: Weights, the cache of the full context, activations.
        latency_ms: Of one generated token at the full context; None where it is not known.
        prefill_ms: Of the longest prompt, to its row of logits; None where it is not known.
        energy_mj_per_token: Power limit times ``latency_ms``; None where it is not known.
        latency_basis: "roofline" or "table", None without a latency.
        latency_high_ms, prefill_high_ms: The upper ends of the intervals that a table states,
            which is what a budget limits; for a roofline, the times themselves.
    """

    n_params: int
    weight_bytes: int
    kv_bytes_per_token: int
    activation_bytes: int
    prefill_flops: int
    decode_flops_per_token: int
    peak_memory_bytes: int
    latency_ms: float | None
    prefill_ms: float | None
    energy_mj_per_token: float | None
    latency_basis: str | None
    latency_high_ms: float | None = None
    prefill_high_ms: float | None = None


class PartCost(NamedTuple):
    """What one part adds; 0 for a latency that is not known."""

    n_params: float
    kv_bytes: float
    prefill_flops: float
    decode_flops: float
    decode_ms: float
    prefill_ms: float
    decode_spill_ms: float
    prefill_spill_ms: float


@dataclass(frozen=True)
class Pricing:
    """Prices of parts on a target at a work point.

    Attributes:
        target: Where.
        at: How long prompt and context are.
        latency: Where milliseconds come from.
    """

    target: Target
    at: WorkPoint
    latency: LatencyModel

    @classmethod
    def by_roofline(cls, target: Target, at: WorkPoint) -> "Pricing":
        """Latencies as the roofline of the target predicts them."""
        return cls(target, at, Roofline(target))

    def block(self, a: Architecture, index: int) -> tuple[PartCost, PartCost]:
        """The first application of a block, and each further one."""
        return self._layer(a, index, False), self._layer(a, index, True)

    def _layer(self, a: Architecture, index: int, again: bool) -> PartCost:
        at, target = self.at, self.target
        one = layer_part(a, index, 1, at.context_len, again)
        prompt = layer_part(a, index, at.longest_prompt, at.longest_prompt, again)
        norms = _params_under(a, f"blocks.{index}.norms.0.")
        return PartCost(
            n_params=norms + (0 if again else counting.block_matrix_params(a, index)),
            kv_bytes=counting.layer_kv_values(a.blocks[index]) * target.bytes_per_value,
            prefill_flops=2.0 * self._layer_macs(a, index),
            decode_flops=one.flops,
            **self._times(one, prompt),
        )

    def _layer_macs(self, a: Architecture, index: int) -> int:
        block, prompt_len = a.blocks[index], self.at.prompt_len
        linear = prompt_len * counting.layer_macs(a, block)
        return linear + counting.layer_attention_macs(block, prompt_len, prompt_len)

    def joint(self, d_in: int, d_out: int) -> PartCost:
        """The projection between two blocks."""
        size = d_in * d_out
        one = joint_part(d_in, d_out, 1)
        prompt = joint_part(d_in, d_out, self.at.longest_prompt)
        flops = 2.0 * self.at.prompt_len * size
        return PartCost(size, 0.0, flops, one.flops, **self._times(one, prompt))

    def ends(self, a: Architecture) -> PartCost:
        """Embeddings, positions, final norm and head; the paper's FLOPs leave the head out."""
        head, prompt = head_part(a, 1), head_part(a, self.at.longest_prompt)
        n_params = _params_under(a, "embed.", "pos_embed.", "final_norm.", "head")
        return PartCost(n_params, 0.0, 0.0, head.flops, **self._times(head, prompt))

    def activation_bytes(self, a: Architecture, index: int) -> int:
        """Of one application of a block to the longest prompt, at its widest point."""
        prompt_len = self.at.longest_prompt
        values = counting.layer_activation_values(a, a.blocks[index], prompt_len, prompt_len)
        return values * self.target.bytes_per_value

    def rates(self) -> dict[str, np.ndarray]:
        """The known costs that a budget can limit, as weights on the fields of ``PartCost``.

        Arrays of shape (rows, fields). A cost is the largest of its rows: most have one, a latency
        has a second where spilling a cache is a matter of the whole. The activations, the one term
        that is no sum, are missing from the memory.
        """
        target, per_token = self.target, self.at.tokens_per_reference
        rates: dict[str, dict[str, float]] = {
            "n_params": {"n_params": 1.0},
            "prefill_flops": {"prefill_flops": 1.0},
            "decode_flops_per_token": {"decode_flops": per_token},
            "peak_memory_bytes": {
                "n_params": target.bytes_per_weight,
                "kv_bytes": self.at.context_len + 1.0,
            },
        }
        if self.latency.knows_decode:
            rates["latency_ms"] = {"decode_ms": per_token}
            rates["latency_high_ms"] = {"decode_ms": per_token * self.latency.decode_spread}
        if self.latency.knows_prefill:
            rates["prefill_ms"] = {"prefill_ms": 1.0}
            rates["prefill_high_ms"] = {"prefill_ms": self.latency.prefill_spread}
        if self.latency.knows_decode and target.power_w is not None:
            rates["energy_mj_per_token"] = {"decode_ms": target.power_w * per_token}
        return {cost: np.array(self._rows(weights)) for cost, weights in rates.items()}

    def _rows(self, weights: dict[str, float]) -> list[list[float]]:
        """Of a cost that a field weighs on, and the same with its spill."""
        rows = [weights]
        if self.latency.spills and any(field.endswith("_ms") for field in weights):
            spills = {field.replace("_ms", "_spill_ms"): w for field, w in weights.items()}
            rows.append(weights | spills)
        return [[row.get(field, 0.0) for field in PartCost._fields] for row in rows]

    def costs(self, totals: np.ndarray, activation_bytes: Any) -> dict[str, Any]:
        """The known costs of sums of parts.

        Args:
            totals: (..., fields of ``PartCost``), summed over the parts.
            activation_bytes: (...), the largest of the blocks.
        """
        costs = {name: (totals @ rows.T).max(axis=-1) for name, rows in self.rates().items()}
        weight_bytes = np.ceil(costs["n_params"] * self.target.bytes_per_weight)
        cache_bytes = costs["peak_memory_bytes"] - costs["n_params"] * self.target.bytes_per_weight
        costs["peak_memory_bytes"] = weight_bytes + np.round(cache_bytes) + activation_bytes
        return costs

    def price(self, a: Architecture) -> CostReport:
        """Price one architecture."""
        total = np.array(self.ends(a), dtype=np.float64)
        for index, block in enumerate(a.blocks):
            first, again = (np.array(part) for part in self.block(a, index))
            total += first + (block.depth - 1) * again
        for d_in, d_out in a.joints().values():
            total += self.joint(d_in, d_out)
        activation_bytes = max(self.activation_bytes(a, index) for index in range(len(a.blocks)))
        costs = self.costs(total, activation_bytes)
        kv_bytes = counting.kv_bytes_per_token(a, self.target.bytes_per_value)
        return CostReport(
            n_params=int(costs["n_params"]),
            weight_bytes=int(np.ceil(costs["n_params"] * self.target.bytes_per_weight)),
            kv_bytes_per_token=kv_bytes,
            activation_bytes=activation_bytes,
            prefill_flops=int(costs["prefill_flops"]),
            decode_flops_per_token=round(costs["decode_flops_per_token"]),
            peak_memory_bytes=int(costs["peak_memory_bytes"]),
            latency_ms=_number(costs.get("latency_ms")),
            prefill_ms=_number(costs.get("prefill_ms")),
            energy_mj_per_token=_number(costs.get("energy_mj_per_token")),
            latency_basis=self.latency.basis if self.latency.knows_decode else None,
            latency_high_ms=_number(costs.get("latency_high_ms")),
            prefill_high_ms=_number(costs.get("prefill_high_ms")),
        )

    def _times(self, one: Part, prompt: Part) -> dict[str, float]:
        """Of a part that reads a token, and of the same that reads a prompt."""
        latency = self.latency
        decode, prefill = latency.knows_decode, latency.knows_prefill
        return {
            "decode_ms": latency.part_ms(one) if decode else 0.0,
            "decode_spill_ms": latency.spill_ms(one) if decode else 0.0,
            "prefill_ms": latency.part_ms(prompt) if prefill else 0.0,
            "prefill_spill_ms": latency.spill_ms(prompt) if prefill else 0.0,
        }


def price(a: Architecture, target: Target, at: WorkPoint) -> CostReport:
    """Price one architecture, latencies by the roofline of the target."""
    return Pricing.by_roofline(target, at).price(a)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _params_under(a: Architecture, *prefixes: str) -> int:
    shapes = weight_shapes(a).items()
    return sum(prod(shape) for name, shape in shapes if name.startswith(prefixes))
