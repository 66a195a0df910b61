"""Parameters, FLOPs and bytes of a decoder, one small function a formula.

Conventions, everywhere in merino-edge: FLOPs = 2 x MACs, matrix products only (norms, softmax,
activations and biases are a percent or two, and differ by implementation); attention is counted
full, not halved for causality, because that is what the graph computes. *Stored* counts a shared
block once; *executed* counts it ``depth`` times: sharing saves memory, not arithmetic.

Nothing here knows a device; ``latency.py`` turns counts into milliseconds.
"""

from collections.abc import Sequence
from math import prod

from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.formats.manifest import KVCacheSpec
from merino_edge.formats.weights import weight_shapes

PAPER_SEQ_LEN = 1024  # the convention we use for "160 GFLOPs": one prefill of 1024 tokens


def n_params(a: Architecture) -> int:
    """Stored parameters: every tensor once, embeddings included."""
    return sum(prod(shape) for shape in weight_shapes(a).values())


def n_params_executed(a: Architecture) -> int:
    """Parameters of the same decoder without sharing: a block counts ``depth`` times."""
    shared = sum((block.depth - 1) * block_matrix_params(a, b) for b, block in enumerate(a.blocks))
    return n_params(a) + shared


def block_matrix_params(a: Architecture, index: int) -> int:
    """Stored parameters of one block without its norms: what each application reads."""
    prefixes = tuple(f"blocks.{index}.{part}." for part in ("attn", "ffn"))
    shapes = weight_shapes(a)
    return sum(prod(shape) for name, shape in shapes.items() if name.startswith(prefixes))


def linear_macs_per_token(a: Architecture) -> int:
    """MACs of all weight matrices of the body for one token (no embedding, no head)."""
    layers = sum(block.depth * layer_macs(a, block) for block in a.blocks)
    return layers + sum(before * after for before, after in a.joints().values())


def layer_macs(a: Architecture, block: BlockSpec) -> int:
    """MACs of the weight matrices of one application of a block, for one token."""
    attention = block.d_model * (block.qkv_dim + block.n_head * block.head_dim)
    return attention + block.d_model * block.d_ff * (3 if a.gated_ffn else 2)


def head_macs(a: Architecture) -> int:
    """MACs of one row of logits: the joint to the embedding's width, and the vocabulary."""
    last = a.blocks[-1].d_model
    joint = last * a.embed_dim if last != a.embed_dim else 0
    return joint + a.vocab_size * a.embed_dim


def attention_macs(a: Architecture, q_len: int, kv_len: int) -> int:
    """MACs of the scores and of the weighted sum of values, over all layers."""
    return sum(b.depth * layer_attention_macs(b, q_len, kv_len) for b in a.blocks)


def layer_attention_macs(block: BlockSpec, q_len: int, kv_len: int) -> int:
    """The same of one application of a block."""
    return 2 * q_len * kv_len * block.n_head * block.head_dim


def forward_flops(a: Architecture, q_len: int, kv_len: int, n_logits: int) -> int:
    """FLOPs of one call of the graph.

    Args:
        a: The decoder.
        q_len: Tokens that go in.
        kv_len: Tokens attended to, the new ones included.
        n_logits: Rows of logits that come out.
    """
    body = q_len * linear_macs_per_token(a) + attention_macs(a, q_len, kv_len)
    return 2 * (body + n_logits * head_macs(a))


def prefill_flops(a: Architecture, seq_len: int = PAPER_SEQ_LEN, n_logits: int = 0) -> int:
    """FLOPs of a prompt in one call; by default our "paper" convention: body only, 1024 tokens."""
    return forward_flops(a, seq_len, seq_len, n_logits)


def decode_flops_per_token(a: Architecture, context_len: int) -> int:
    """FLOPs of one generated token that attends to ``context_len`` tokens, itself included."""
    return forward_flops(a, 1, context_len, 1)


def kv_cache_spec(
    a: Architecture, context_len: int, dtype: str = "float32", buckets: Sequence[int] = ()
) -> KVCacheSpec:
    """The cache of a decoder: sharing weights does not share a cache, so one entry per layer."""
    layers: list[tuple[int, ...]] = [
        (block.n_kv_head, block.head_dim) for _, _, block in a.layers()
    ]
    return KVCacheSpec(layers, context_len, dtype, list(buckets))


def kv_bytes_per_token(a: Architecture, bytes_per_value: int) -> int:
    """Bytes of keys and values that one token adds, over all layers."""
    return sum(b.depth * layer_kv_values(b) for b in a.blocks) * bytes_per_value


def layer_kv_values(block: BlockSpec) -> int:
    """Keys and values, as numbers, that one token adds in one application of a block."""
    return 2 * block.n_kv_head * block.head_dim


def layer_activation_values(a: Architecture, block: BlockSpec, q_len: int, kv_len: int) -> int:
    """Numbers that one application keeps at its widest point, beside weights and cache.

    The residual and the branch's input, and the larger of what attention holds (queries, keys,
    values, one matrix of scores a head, its result) and what the feed-forward holds. A runtime
    that fuses attention needs less, one that copies needs more.
    """
    heads = block.n_head * block.head_dim
    attention = q_len * (block.qkv_dim + heads) + block.n_head * q_len * kv_len
    feed_forward = q_len * block.d_ff * (3 if a.gated_ffn else 1)
    return 2 * q_len * block.d_model + max(attention, feed_forward)
