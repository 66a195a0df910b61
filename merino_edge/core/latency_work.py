"""What the parts of a call do, in kinds of work that each have a price.

The one idea: two parts that do the same amounts of the same kinds take the same time, whatever they
are called. Kinds were chosen by looking at what decoders spend time on: being called, per-layer
vectors, reading weights (for the first time in a call, or again from a cache), multiplying with
them, attending, the head, the joints. Prices are found elsewhere (``latency_fit``).

Weights are counted in millions, so that prices are of one size.
"""

from math import ceil
from typing import NamedTuple

import numpy as np

from merino_edge.core.latency import Part, head_part, joint_part, layer_part
from merino_edge.errors import SpecError
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.latency_table import DECODE, Workload

CALL_TOKENS = 128  # most tokens that a session gives to one call of a backend
WORK = (
    "call", "layer", "layer width", "layer inner width", "weights first", "weights again",
    "weights x tokens", "attention", "attention rows", "head weights", "joint weights",
)  # fmt: skip
_MILLION = 1e-6


class Stored(NamedTuple):
    """Bytes of one number that a call reads.

    Attributes:
        weight: Of the layers and joints.
        word: Of the head.
        value: Of the key/value cache.
    """

    weight: float
    word: float
    value: float


# int8 has an f16 scale for 32 numbers, int4 a scale and a minimum; an int4 file's words are int8,
# those of int4-all are int4.
_STORED = {
    "fp32": Stored(4.0, 4.0, 4.0),
    "fp16": Stored(2.0, 2.0, 2.0),
    "int8": Stored(1.0625, 1.0625, 2.0),
    "int4": Stored(0.625, 1.0625, 2.0),
    "int4-all": Stored(0.625, 0.625, 2.0),
}


def stored_in(precision: str) -> Stored:
    """Of a bundle in this precision.

    Raises:
        SpecError: There is no such precision.
    """
    if precision not in _STORED:
        raise SpecError(f"is {precision!r}, not one of {', '.join(_STORED)}.", field="precision")
    return _STORED[precision]


def call_parts(a: Architecture, workload: Workload) -> list[tuple[int, Part]]:
    """The parts of one call, each with how often it is executed."""
    q_len, kv_len = (1 if workload.phase == DECODE else workload.length), workload.length
    parts = [(1, head_part(a, q_len))]
    parts += [(1, joint_part(d_in, d_out, q_len)) for d_in, d_out in a.joints().values()]
    for index, block in enumerate(a.blocks):
        parts.append((1, layer_part(a, index, q_len, kv_len, again=False)))
        if block.depth > 1:
            parts.append((block.depth - 1, layer_part(a, index, q_len, kv_len, again=True)))
    return parts


def total_work(a: Architecture, workload: Workload, cached: int) -> np.ndarray:
    """What a whole call does, in the order of ``WORK``.

    Args:
        a: The decoder.
        workload: The call.
        cached: Blocks of at most so many weights stay in a cache between applications.
    """
    parts = call_parts(a, workload)
    total: np.ndarray = np.sum([times * part_work(part, cached) for times, part in parts], axis=0)
    return total


def total_read_mb(a: Architecture, workload: Workload, stored: Stored) -> float:
    """Megabytes that a whole call reads, a block's weights once."""
    return sum(times * read_mb(part, stored) for times, part in call_parts(a, workload))


def part_work(part: Part, cached: int) -> np.ndarray:
    """What one part does, in the order of ``WORK``."""
    calls, weights = ceil(part.q_len / CALL_TOKENS), part.weights * _MILLION
    if part.op == "head":
        return _named({"call": calls, "head weights": calls * weights})
    if part.op == "joint":
        return _named({"joint weights": part.q_len * weights})
    assert part.block is not None
    block, q_len = part.block, part.q_len
    stays = part.again and part.weights <= cached
    pairs = q_len * part.kv_len * _MILLION
    return _named(
        {
            "layer": calls,
            "layer width": q_len * block.d_model * 1e-3,
            "layer inner width": q_len * block.d_ff * 1e-3,
            "weights again" if stays else "weights first": calls * weights,
            "weights x tokens": q_len * weights,
            "attention": pairs * block.n_head * block.head_dim,
            "attention rows": pairs * block.n_head * 1e2,
        }
    )


def read_mb(part: Part, stored: Stored) -> float:
    """Megabytes that one part reads and no part before it in the call has read."""
    weights = 0 if part.again else part.weights
    of_weight = stored.word if part.op == "head" else stored.weight
    return (weights * of_weight + part.cache_values * stored.value) * _MILLION


def _named(found: dict[str, float]) -> np.ndarray:
    return np.array([found.get(name, 0.0) for name in WORK])
