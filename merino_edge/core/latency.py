"""From the parts of a decoder to milliseconds.

The one idea: a call of the graph is a chain of parts (layers, joints, the head), and its latency
is the sum of theirs. A ``LatencyModel`` knows the time of one part; where it gets it from, a
formula or a table of measurements, is its own affair, and it says so in ``basis``.

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
        read_bytes: Weights and cache that come from memory.
    """

    op: str
    block: BlockSpec | None
    d_in: int
    d_out: int
    q_len: int
    kv_len: int
    flops: float
    read_bytes: float


class LatencyModel(Protocol):
    """Something that knows how long a part takes.

    Attributes:
        basis: Where its times come from: "roofline", or "table".
        knows_decode: It has times for one token.
        knows_prefill: It has times for a prompt.
    """

    basis: str
    knows_decode: bool
    knows_prefill: bool

    def part_ms(self, part: Part) -> float:
        """Milliseconds; asked only for what it knows."""


class Roofline:
    """The lower bound that a target's peak rate and bandwidth set.

    One token's arithmetic is far below its reading on every target here, so without a peak rate
    decoding is still known, and a prompt is not.
    """

    basis = "roofline"

    def __init__(self, target: Target):
        self._bandwidth = target.peak_bandwidth_bytes_per_s
        self._peak_flops = target.peak_flops_per_s
        self.knows_decode = self._bandwidth is not None
        self.knows_prefill = self.knows_decode and self._peak_flops is not None

    def part_ms(self, part: Part) -> float:
        """Milliseconds of the slower of arithmetic and reading."""
        assert self._bandwidth is not None  # or it knows nothing
        compute_s = part.flops / self._peak_flops if self._peak_flops else 0.0
        return 1000.0 * max(compute_s, part.read_bytes / self._bandwidth)


def layer_part(
    a: Architecture, index: int, q_len: int, kv_len: int, target: Target, again: bool
) -> Part:
    """One application of a block.

    Args:
        a: The decoder.
        index: Of the block.
        q_len: Tokens that go in.
        kv_len: Tokens attended to.
        target: Where; its cache decides whether the weights stay between applications.
        again: Not the first application of this call.
    """
    block = a.blocks[index]
    macs = q_len * counting.layer_macs(a, block)
    macs += counting.layer_attention_macs(block, q_len, kv_len)
    weight_bytes = counting.block_matrix_params(a, index) * target.bytes_per_weight
    if again and weight_bytes <= target.block_cache_bytes:
        weight_bytes = 0.0
    cache_bytes = kv_len * counting.layer_kv_values(block) * target.bytes_per_value
    return Part("layer", block, 0, 0, q_len, kv_len, 2.0 * macs, weight_bytes + cache_bytes)


def joint_part(d_in: int, d_out: int, q_len: int, target: Target) -> Part:
    """The projection between blocks of different width."""
    flops, read_bytes = 2.0 * q_len * d_in * d_out, d_in * d_out * target.bytes_per_weight
    return Part("joint", None, d_in, d_out, q_len, 0, flops, read_bytes)


def head_part(a: Architecture, target: Target) -> Part:
    """One row of logits, with the projection back to the embedding's width."""
    macs = counting.head_macs(a)
    read_bytes = macs * target.bytes_per_weight
    return Part("head", None, a.embed_dim, a.vocab_size, 1, 0, 2.0 * macs, read_bytes)
