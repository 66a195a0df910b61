"""GPT-2, and Cerebras-GPT, which calls itself by the same ``model_type``.

Its matrices are stored (inputs, outputs), from a layer called ``Conv1D``, so each is turned; q, k
and v stand side by side in one of them already. Files on the web come with the names' common
beginning, ``transformer.``, and without, and some store each layer's causal mask.
"""

from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.model.importers.hf_config import Config
from merino_edge.model.importers.hf_family import Family, linear, matrix, norm
from merino_edge.model.importers.parts import Plan


def _architecture(config: Config) -> Architecture:
    n_head = config.get("n_head", int)
    width = config.get("n_embd", int)
    block = BlockSpec(
        d_model=width,
        n_head=n_head,
        n_kv_head=n_head,
        d_ff=config.get("n_inner", int, 4 * width),
        depth=1,
    )
    config.expect("scale_attn_weights", True)
    config.expect("scale_attn_by_inverse_layer_idx", False)
    config.expect("add_cross_attention", False)
    return Architecture(
        blocks=config.layers("n_layer", block),
        vocab_size=config.get("vocab_size", int),
        max_seq_len=config.get("n_positions", int),
        norm_eps=config.get("layer_norm_epsilon", float, 1e-5),
        activation=config.activation("activation_function", "gelu_new"),
        tie_embeddings=config.get("tie_word_embeddings", bool, True),
    )


def _plan(a: Architecture) -> Plan:
    base, width = "transformer.", a.blocks[0].d_model
    plan = matrix("embed", base + "wte", (a.vocab_size, width))
    plan |= matrix("pos_embed", base + "wpe", (a.max_seq_len, width))
    for b, block in enumerate(a.blocks):
        ours, theirs = f"blocks.{b}.", f"{base}h.{b}."
        parts = {
            "attn.qkv": ("attn.c_attn", (3 * width, width)),
            "attn.out": ("attn.c_proj", (width, width)),
            "ffn.up": ("mlp.c_fc", (block.d_ff, width)),
            "ffn.down": ("mlp.c_proj", (width, block.d_ff)),
        }
        for name, (their_name, shape) in parts.items():
            plan |= linear(ours + name, theirs + their_name, shape, bias=True, turned=True)
        plan |= norm(ours + "norms.0.attn", theirs + "ln_1", width)
        plan |= norm(ours + "norms.0.ffn", theirs + "ln_2", width)
    plan |= norm("final_norm", base + "ln_f", width)
    if not a.tie_embeddings:
        plan |= matrix("head", "lm_head", (a.vocab_size, width))
    return plan


GPT2 = Family(
    name="gpt2",
    base="transformer.",
    head="lm_head.weight",
    architecture=_architecture,
    plan=_plan,
    constants=(r".*h\.\d+\.attn\.(masked_)?bias",),
)
