"""Llama and what is built like it (SmolLM2): RMSNorm, rope, grouped heads, gated SiLU.

Hugging Face keeps q and k in the order that pairs halves of a head, as we do; only stacking is
left. Heads whose width is not d_model / n_head are refused, as is scaled rope (Llama 3.1).
"""

from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.model.importers.hf_config import Config
from merino_edge.model.importers.hf_family import Family, linear, matrix, norm, stacked
from merino_edge.model.importers.parts import Plan


def _architecture(config: Config) -> Architecture:
    n_head = config.get("num_attention_heads", int)
    block = BlockSpec(
        d_model=config.get("hidden_size", int),
        n_head=n_head,
        n_kv_head=config.get("num_key_value_heads", int, n_head),
        d_ff=config.get("intermediate_size", int),
        depth=1,
    )
    config.expect("head_dim", block.d_model // max(1, n_head))
    config.expect("rope_interleaved", False)
    rope_base, _ = config.rope(("rope_theta",))
    return Architecture(
        blocks=config.layers("num_hidden_layers", block),
        vocab_size=config.get("vocab_size", int),
        max_seq_len=config.get("max_position_embeddings", int, 2048),
        norm="rmsnorm",
        norm_eps=config.get("rms_norm_eps", float, 1e-6),
        position="rope",
        rope_base=rope_base,
        activation=config.activation("hidden_act", "silu"),
        gated_ffn=True,
        attention_bias=config.get("attention_bias", bool, False),
        ffn_bias=config.get("mlp_bias", bool, False),
        tie_embeddings=config.get("tie_word_embeddings", bool, False),
    )


def _plan(a: Architecture) -> Plan:
    width = a.blocks[0].d_model
    plan = matrix("embed", "model.embed_tokens", (a.vocab_size, width))
    for b, block in enumerate(a.blocks):
        ours, theirs = f"blocks.{b}.", f"model.layers.{b}."
        q, kv = block.n_head * block.head_dim, block.n_kv_head * block.head_dim
        qkv = [f"{theirs}self_attn.{each}_proj" for each in "qkv"]
        up = [f"{theirs}mlp.{each}_proj" for each in ("gate", "up")]
        out, down = theirs + "self_attn.o_proj", theirs + "mlp.down_proj"
        plan |= stacked(ours + "attn.qkv", qkv, [q, kv, kv], width, a.attention_bias)
        plan |= linear(ours + "attn.out", out, (width, q), a.attention_bias)
        plan |= stacked(ours + "ffn.up", up, [block.d_ff] * 2, width, a.ffn_bias)
        plan |= linear(ours + "ffn.down", down, (width, block.d_ff), a.ffn_bias)
        plan |= norm(ours + "norms.0.attn", theirs + "input_layernorm", width, bias=False)
        plan |= norm(ours + "norms.0.ffn", theirs + "post_attention_layernorm", width, bias=False)
    plan |= norm("final_norm", "model.norm", width, bias=False)
    if not a.tie_embeddings:
        plan |= matrix("head", "lm_head", (a.vocab_size, width))
    return plan


LLAMA = Family(
    name="llama",
    base="model.",
    head="lm_head.weight",
    architecture=_architecture,
    plan=_plan,
    constants=(r".*rotary_emb\.inv_freq",),
)
