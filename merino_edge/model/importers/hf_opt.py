"""OPT: learned positions and ReLU; two of its sizes are built in two ways.

- Positions: the table has two rows before the first position, from a padding convention, which
  no text ever uses; they are left out (and counted in what people publish).
- OPT-350M has its norms *after* each sum and none at the end, and an embedding of 512 joined to
  1,024 by a projection on either side. The positions are added behind the first.
- The others have norms before each sublayer and one at the end, as GPT-2.
"""

import numpy as np

from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.model.importers.hf_config import Config
from merino_edge.model.importers.hf_family import Family, linear, matrix, norm, stacked
from merino_edge.model.importers.parts import Part, Plan

UNUSED_POSITIONS = 2
_BASE = "model.decoder."


def _architecture(config: Config) -> Architecture:
    n_head = config.get("num_attention_heads", int)
    block = BlockSpec(
        d_model=config.get("hidden_size", int),
        n_head=n_head,
        n_kv_head=n_head,
        d_ff=config.get("ffn_dim", int),
        depth=1,
    )
    config.expect("layer_norm_elementwise_affine", True)
    pre = config.get("do_layer_norm_before", bool, True)
    bias = config.get("enable_bias", bool, True)
    d_embed = config.get("word_embed_proj_dim", int, block.d_model)
    return Architecture(
        blocks=config.layers("num_hidden_layers", block),
        vocab_size=config.get("vocab_size", int),
        max_seq_len=config.get("max_position_embeddings", int),
        activation=config.activation("activation_function", "relu"),
        attention_bias=bias,
        ffn_bias=bias,
        tie_embeddings=config.get("tie_word_embeddings", bool, True),
        d_embed=None if d_embed == block.d_model else d_embed,
        norm_place="pre" if pre else "post",
        final_norm=pre and not config.get("_remove_final_layer_norm", bool, False),
    )


def _plan(a: Architecture) -> Plan:
    width = a.blocks[0].d_model
    positions = Part(
        _BASE + "embed_positions.weight", (a.max_seq_len + UNUSED_POSITIONS, width), _used_rows
    )
    plan = matrix("embed", _BASE + "embed_tokens", (a.vocab_size, a.embed_dim))
    plan["pos_embed.weight"] = (positions,)
    if a.embed_dim != width:
        plan |= matrix("blocks.0.joint", _BASE + "project_in", (width, a.embed_dim))
        plan |= matrix("head_joint", _BASE + "project_out", (a.embed_dim, width))
    for b, block in enumerate(a.blocks):
        ours, theirs = f"blocks.{b}.", f"{_BASE}layers.{b}."
        qkv = [f"{theirs}self_attn.{each}_proj" for each in "qkv"]
        out = theirs + "self_attn.out_proj"
        plan |= stacked(ours + "attn.qkv", qkv, [width] * 3, width, a.attention_bias)
        plan |= linear(ours + "attn.out", out, (width, width), a.attention_bias)
        plan |= linear(ours + "ffn.up", theirs + "fc1", (block.d_ff, width), a.ffn_bias)
        plan |= linear(ours + "ffn.down", theirs + "fc2", (width, block.d_ff), a.ffn_bias)
        plan |= norm(ours + "norms.0.attn", theirs + "self_attn_layer_norm", width)
        plan |= norm(ours + "norms.0.ffn", theirs + "final_layer_norm", width)
    if a.final_norm:
        plan |= norm("final_norm", _BASE + "final_layer_norm", width)
    if not a.tie_embeddings:
        plan |= matrix("head", "lm_head", (a.vocab_size, a.embed_dim))
    return plan


def _used_rows(table: np.ndarray) -> np.ndarray:
    return table[UNUSED_POSITIONS:]


def _notes(a: Architecture) -> tuple[str, ...]:
    missing = UNUSED_POSITIONS * a.blocks[0].d_model
    return (
        f"the first two of its {a.max_seq_len + UNUSED_POSITIONS:,} rows of positions are never "
        f"used and left out: {missing:,} parameters fewer than published",
    )


OPT = Family(
    name="opt",
    base="model.",
    head="lm_head.weight",
    architecture=_architecture,
    plan=_plan,
    notes=_notes,
)
