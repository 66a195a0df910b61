"""A decoder for peers that cannot share layers, join widths, or either: the nearest they can run.

The one idea: a peer gets no more work than we do. The stand-in is a plain decoder of GPT-2's shape,
as wide as our embedding, with as many layers as we apply; its feed-forward is as wide as the
multiplications of our body allow, rounded down. So each token costs at most as many
multiplications, the head is the same, and the cache is no larger. What differs is stored bytes: a
peer holds each layer once for every time that we apply it. ``Comparison`` says it in numbers.

It is an ``Architecture`` like any other, so its weights, files and right answers come from the same
code as everybody's.
"""

from typing import NamedTuple

from merino_edge.core import counting
from merino_edge.errors import SpecError
from merino_edge.formats.architecture import Architecture, BlockSpec

FFN_STEP = 32  # blocks of quantised weights are 32 columns wide


class Work(NamedTuple):
    """What one token costs, whatever runs it.

    Attributes:
        n_layers: As applied.
        body_macs: Of the matrices of all layers and joints.
        head_macs: Of one row of logits.
        kv_values_per_token: Keys and values that one token adds to the cache.
        stored_params: Numbers that must be kept.
    """

    n_layers: int
    body_macs: int
    head_macs: int
    kv_values_per_token: int
    stored_params: int


def stand_in(a: Architecture) -> Architecture:
    """The largest plain decoder of one width that does no more than ``a`` for a token.

    Raises:
        SpecError: Attention of that width alone costs more than all of the body.
    """
    d_model = a.embed_dim
    head_dim = a.blocks[0].head_dim
    n_head = d_model // head_dim
    macs = (_body_macs(a)) // a.n_layers
    d_ff = (macs - 4 * d_model * d_model) // (2 * d_model) // FFN_STEP * FFN_STEP
    if d_ff < FFN_STEP or d_model % head_dim:
        raise SpecError(f"there is no plain decoder of width {d_model} with {macs} MACs a layer.")
    block = BlockSpec(d_model=d_model, n_head=n_head, n_kv_head=n_head, d_ff=d_ff, depth=1)
    return a.replace(blocks=(block,) * a.n_layers, gated_ffn=False, d_embed=None)


def work(a: Architecture) -> Work:
    """What one token of a decoder costs."""
    return Work(
        n_layers=a.n_layers,
        body_macs=_body_macs(a),
        head_macs=a.vocab_size * a.embed_dim,
        kv_values_per_token=counting.kv_bytes_per_token(a, 1),
        stored_params=counting.n_params(a),
    )


def _body_macs(a: Architecture) -> int:
    """All matrices but the vocabulary's, the joint before the head among them."""
    joint = counting.head_macs(a) - a.vocab_size * a.embed_dim
    return counting.linear_macs_per_token(a) + joint
