"""From the parts of a decoder to milliseconds.

The one idea: a call of the graph is a chain of parts (layers, joints, the head), and its latency
is the sum of theirs, and of what all of them together take beyond it where they no longer fit a
cache: ``max(0, sum of spills)``. A ``LatencyModel`` knows both of one part; where it gets them
from, a formula or a table of measurements, is its own affair, and it says so in ``basis``.

The ``Roofline`` is the formula: a part takes at least as long as its arithmetic at the peak rate
and at least as long as reading its weights and cache at the memory's bandwidth. It is a lower
bound: launches, copies and the time between kernels are not in it.
"""

from typing import NamedTuple, Protocol

from merino_edge.core import counting
from merino_edge.core.targets import Target
from merino_edge.formats.architecture import Architecture, BlockSpec


class Part(NamedTuple):
    """One part of one call.

    Attributes:
        op: "layer", "joint" or "head".
        block: The layer's block; None for the others.
        d_in, d_out: Sizes of the matrix of a joint or head; 0 for a layer.
        q_len: Tokens that go in.
        kv_len: Tokens attended to.
        flops: Of its matrix products.
        weights: Numbers in its matrices.
        cache_values: Numbers that it reads from the key/value cache.
        again: The same weights were used directly before, in this call.
    """

    op: str
    block: BlockSpec | None
    d_in: int
    d_out: int
    q_len: int
    kv_len: int
    flops: float
    weights: int
    cache_values: int
    again: bool


class LatencyModel(Protocol):
    """Something that knows how long a part takes.

    Attributes:
        basis: Where its times come from: "roofline", or "table".
        knows_decode: It has times for one token.
        knows_prefill: It has times for a prompt.
        spills: ``spill_ms`` is not always 0.
        decode_spread, prefill_spread: The upper end of the interval that it states, over the
            time; 1 for a model that states none.
    """

    basis: str
    knows_decode: bool
    knows_prefill: bool
    spills: bool
    decode_spread: float
    prefill_spread: float

    def part_ms(self, part: Part) -> float:
        """Milliseconds; asked only for what it knows."""

    def spill_ms(self, part: Part) -> float:
        """What it adds where the whole does not fit; below zero for what still does."""


class Roofline:
    """The lower bound that a target's peak rate and bandwidth set.

    One token's arithmetic is far below its reading on every target here, so without a peak rate
    decoding is still known, and a prompt is not.
    """

    basis = "roofline"
    spills = False
    decode_spread = prefill_spread = 1.0

    def __init__(self, target: Target):
        self._target = target
        self._bandwidth = target.peak_bandwidth_bytes_per_s
        self._peak_flops = target.peak_flops_per_s
        self.knows_decode = self._bandwidth is not None
        self.knows_prefill = self.knows_decode and self._peak_flops is not None

    def part_ms(self, part: Part) -> float:
        """Milliseconds of the slower of arithmetic and reading."""
        assert self._bandwidth is not None  # or it knows nothing
        compute_s = part.flops / self._peak_flops if self._peak_flops else 0.0
        return 1000.0 * max(compute_s, self._read_bytes(part) / self._bandwidth)

    def spill_ms(self, part: Part) -> float:
        """Nothing: the bandwidth is that of memory."""
        return 0.0

    def _read_bytes(self, part: Part) -> float:
        """From memory; the target's cache decides whether weights stay between applications."""
        target = self._target
        weight_bytes = part.weights * target.bytes_per_weight
        if part.again and weight_bytes <= target.block_cache_bytes:
            weight_bytes = 0.0
        return weight_bytes + part.cache_values * target.bytes_per_value


def layer_part(a: Architecture, index: int, q_len: int, kv_len: int, again: bool) -> Part:
    """One application of a block.

    Args:
        a: The decoder.
        index: Of the block.
        q_len: Tokens that go in.
        kv_len: Tokens attended to.
        again: Not the first application of this call.
    """
    block = a.blocks[index]
    macs = q_len * counting.layer_macs(a, block)
    macs += counting.layer_attention_macs(block, q_len, kv_len)
    weights = counting.block_matrix_params(a, index)
    cache_values = kv_len * counting.layer_kv_values(block)
    return Part("layer", block, 0, 0, q_len, kv_len, 2.0 * macs, weights, cache_values, again)


def joint_part(d_in: int, d_out: int, q_len: int) -> Part:
    """The projection between blocks of different width."""
    weights = d_in * d_out
    return Part("joint", None, d_in, d_out, q_len, 0, 2.0 * q_len * weights, weights, 0, False)


def head_part(a: Architecture, q_len: int) -> Part:
    """One row of logits, with the projection back to the embedding's width, of a call."""
    macs = counting.head_macs(a)
    return Part("head", None, a.embed_dim, a.vocab_size, q_len, 0, 2.0 * macs, macs, 0, False)
