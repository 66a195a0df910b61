"""GPT-NeoX and Pythia: both sublayers read the same input, and a quarter of each head rotates.

q, k and v lie in one matrix, but head by head: (q0 k0 v0 q1 k1 v1 ...), so its rows are sorted
into all queries, all keys, all values. The rotated part of a head comes first, and pairs its
halves as we do.
"""

from collections.abc import Callable

import numpy as np

from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.model.importers.hf_config import Config
from merino_edge.model.importers.hf_family import Family, linear, matrix, norm
from merino_edge.model.importers.parts import Part, Plan


def _architecture(config: Config) -> Architecture:
    n_head = config.get("num_attention_heads", int)
    block = BlockSpec(
        d_model=config.get("hidden_size", int),
        n_head=n_head,
        n_kv_head=n_head,
        d_ff=config.get("intermediate_size", int),
        depth=1,
    )
    rope_base, fraction = config.rope(
        ("rotary_emb_base", "rope_theta"), ("rotary_pct", "partial_rotary_factor")
    )
    return Architecture(
        blocks=config.layers("num_hidden_layers", block),
        vocab_size=config.get("vocab_size", int),
        max_seq_len=config.get("max_position_embeddings", int),
        norm_eps=config.get("layer_norm_eps", float, 1e-5),
        position="rope",
        rope_base=rope_base,
        rope_fraction=0.25 if fraction is None else fraction,
        activation=config.activation("hidden_act", "gelu"),
        attention_bias=config.get("attention_bias", bool, True),
        parallel_residual=config.get("use_parallel_residual", bool, True),
        tie_embeddings=config.get("tie_word_embeddings", bool, False),
    )


def _plan(a: Architecture) -> Plan:
    base, width = "gpt_neox.", a.blocks[0].d_model
    plan = matrix("embed", base + "embed_in", (a.vocab_size, width))
    for b, block in enumerate(a.blocks):
        ours, theirs = f"blocks.{b}.", f"{base}layers.{b}."
        qkv, sort = theirs + "attention.query_key_value", _by_kind(block.n_head)
        up, down = theirs + "mlp.dense_h_to_4h", theirs + "mlp.dense_4h_to_h"
        plan[ours + "attn.qkv.weight"] = (Part(qkv + ".weight", (3 * width, width), sort),)
        if a.attention_bias:
            plan[ours + "attn.qkv.bias"] = (Part(qkv + ".bias", (3 * width,), sort),)
        out = theirs + "attention.dense"
        plan |= linear(ours + "attn.out", out, (width, width), a.attention_bias)
        plan |= linear(ours + "ffn.up", up, (block.d_ff, width), bias=True)
        plan |= linear(ours + "ffn.down", down, (width, block.d_ff), bias=True)
        plan |= norm(ours + "norms.0.attn", theirs + "input_layernorm", width)
        plan |= norm(ours + "norms.0.ffn", theirs + "post_attention_layernorm", width)
    plan |= norm("final_norm", base + "final_layer_norm", width)
    if not a.tie_embeddings:
        plan |= matrix("head", "embed_out", (a.vocab_size, width))
    return plan


def _by_kind(n_head: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: sorted_by_kind(rows, n_head)


def sorted_by_kind(rows: np.ndarray, n_head: int) -> np.ndarray:
    """Reorder rows from (q0 k0 v0 q1 k1 v1 ...) to (q0 q1 ... k0 k1 ... v0 v1 ...).

    Args:
        rows: [3 * n_head * head_dim, ...], a matrix or a bias.
        n_head: Heads in it.
    """
    by_head = rows.reshape(n_head, 3, len(rows) // n_head // 3, *rows.shape[1:])
    return by_head.swapaxes(0, 1).reshape(rows.shape)


GPT_NEOX = Family(
    name="gpt_neox",
    base="gpt_neox.",
    head="embed_out.weight",
    architecture=_architecture,
    plan=_plan,
    constants=(
        r".*attention\.(masked_)?bias",
        r".*rotary_emb\.inv_freq",
    ),
)
