"""What an architecture costs on a target: everything that a budget can ask about.

The one idea: counts come from ``counting.py``, facts from the target, and a latency is what the
roofline says: a generated token must read the weights and the cache from memory once, so it
cannot come faster than bytes / bandwidth. That is a *prediction*, a lower bound, and is named so.
``price`` takes one architecture; the search prices whole populations by the same rules, and a
test holds the two together.
"""

from math import ceil
from typing import NamedTuple

import numpy as np

from merino_edge.core import counting
from merino_edge.core.targets import Target
from merino_edge.formats.architecture import Architecture

ROOFLINE = "roofline"


class WorkPoint(NamedTuple):
    """The point at which costs are quoted.

    Attributes:
        prompt_len: Tokens of the prompt whose FLOPs are counted (body only).
        context_len: Tokens in the cache, for memory, decode FLOPs and latency.
    """

    prompt_len: int = counting.PAPER_SEQ_LEN
    context_len: int = counting.PAPER_SEQ_LEN


class CostReport(NamedTuple):
    """Costs of one architecture on one target at one work point.

    Attributes:
        n_params: Stored parameters, shared ones once, embeddings included.
        weight_bytes: Of the stored parameters in the target's precision.
        kv_bytes_per_token: Keys and values that one token adds.
        prefill_flops: Of the prompt, body only.
        decode_flops_per_token: At the full context, head included.
        peak_memory_bytes: Weights and the cache of the full context; activations are not counted.
        latency_ms: Of one generated token at the full context; None where it is not known.
        latency_basis: "roofline" for a prediction, None without a latency.
    """

    n_params: int
    weight_bytes: int
    kv_bytes_per_token: int
    prefill_flops: int
    decode_flops_per_token: int
    peak_memory_bytes: int
    latency_ms: float | None
    latency_basis: str | None


def roofline_ms(traffic_bytes: "float | np.ndarray", target: Target) -> "float | np.ndarray | None":
    """Milliseconds to read these bytes at the target's bandwidth; None where that is unknown."""
    if target.peak_bandwidth_bytes_per_s is None:
        return None
    return 1000.0 * traffic_bytes / target.peak_bandwidth_bytes_per_s


def price(a: Architecture, target: Target, at: WorkPoint) -> CostReport:
    """Price one architecture."""
    n_params = counting.n_params(a)
    weight_bytes = ceil(n_params * target.bytes_per_weight)
    cache = counting.kv_cache_spec(a, at.context_len, target.kv_dtype)
    traffic = counting.decode_traffic_bytes(
        a, at.context_len, target.bytes_per_weight, target.bytes_per_value, target.block_cache_bytes
    )
    latency_ms = roofline_ms(traffic, target)
    return CostReport(
        n_params=n_params,
        weight_bytes=weight_bytes,
        kv_bytes_per_token=cache.bytes_per_token,
        prefill_flops=counting.prefill_flops(a, at.prompt_len),
        decode_flops_per_token=counting.decode_flops_per_token(a, at.context_len),
        peak_memory_bytes=weight_bytes + cache.total_bytes,
        latency_ms=None if latency_ms is None else float(latency_ms),
        latency_basis=None if latency_ms is None else ROOFLINE,
    )
