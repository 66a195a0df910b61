"""A decoder of ours as a folder that transformers, and what builds on it, can read.

The one idea: names and orientation change, no number does. Llama's rotary order is ours (the first
half of a head turns with the second), its matrices are [outputs, inputs] as ours; GPT-2's are
[inputs, outputs]. Only these two families are written; anything else is refused.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from merino_edge.errors import UnsupportedError
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.formats.weights import write_weights

Tensors = Mapping[str, np.ndarray]
_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "silu"}


def family(a: Architecture) -> str:
    """Either "llama" or "gpt2".

    Raises:
        UnsupportedError: It is neither.
    """
    plain = len(set(a.blocks)) == 1 and a.blocks[0].depth == 1 and not a.joints()
    biased = a.attention_bias, a.ffn_bias
    if plain and a.tie_embeddings:
        if (a.norm, a.position, a.gated_ffn, *biased) == ("rmsnorm", "rope", True, False, False):
            return "llama"
        whole = a.blocks[0].n_kv_head == a.blocks[0].n_head
        kind = (a.norm, a.position, a.gated_ffn, *biased)
        if whole and kind == ("layernorm", "learned", False, True, True):
            return "gpt2"
    raise UnsupportedError("this decoder is neither of Llama's kind nor of GPT-2's.")


def write_hf_folder(folder: str, a: Architecture, tensors: Tensors, tokenizer_json: str) -> None:
    """Write config, weights in float32, and a tokenizer.

    Args:
        folder: An existing folder.
        a: The decoder.
        tensors: By the names of ``formats.weights``.
        tokenizer_json: What the converters of others insist on; nobody tokenizes here.

    Raises:
        UnsupportedError: It is neither of Llama's kind nor of GPT-2's.
    """
    kind = family(a)
    config, named = (_llama_config, _llama) if kind == "llama" else (_gpt2_config, _gpt2)
    arrays = ((name, np.ascontiguousarray(value, np.float32)) for name, value in named(a, tensors))
    write_weights(
        os.path.join(folder, "model.safetensors"),
        ((name, "F32", array.shape, array.data) for name, array in arrays),
    )
    for name, document in (
        ("config.json", config(a)),
        ("generation_config.json", {"eos_token_id": None, "bos_token_id": None}),
        ("tokenizer_config.json", _tokenizer_config(tokenizer_json)),
    ):
        text = jsonio.dumps(document)
        jsonio.write_bytes_atomic(os.path.join(folder, name), text.encode("utf-8"))
    data = tokenizer_json.encode("utf-8")
    jsonio.write_bytes_atomic(os.path.join(folder, "tokenizer.json"), data)


def _tokenizer_config(tokenizer_json: str) -> dict[str, str]:
    """Converters insist on special tokens; the word of id 0 is one as good as any."""
    document = json.loads(tokenizer_json)
    words = {each["id"]: each["content"] for each in document["added_tokens"]}
    words.update({i: word for word, i in document["model"]["vocab"].items() if i == 0})
    special = {f"{kind}_token": words[0] for kind in ("bos", "eos", "unk")}
    return {"tokenizer_class": "PreTrainedTokenizerFast", **special}


def _common(a: Architecture) -> dict[str, Any]:
    return {
        "vocab_size": a.vocab_size,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def _llama_config(a: Architecture) -> dict[str, Any]:
    block = a.blocks[0]
    return {
        **_common(a),
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": block.d_model,
        "intermediate_size": block.d_ff,
        "num_hidden_layers": a.n_layers,
        "num_attention_heads": block.n_head,
        "num_key_value_heads": block.n_kv_head,
        "head_dim": block.head_dim,
        "hidden_act": _ACTIVATIONS[a.activation],
        "max_position_embeddings": a.max_seq_len,
        "rms_norm_eps": a.norm_eps,
        "rope_theta": a.rope_base,
        "attention_bias": False,
        "mlp_bias": False,
    }


def _gpt2_config(a: Architecture) -> dict[str, Any]:
    block = a.blocks[0]
    return {
        **_common(a),
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": block.d_model,
        "n_inner": block.d_ff,
        "n_layer": a.n_layers,
        "n_head": block.n_head,
        "n_positions": a.max_seq_len,
        "activation_function": _ACTIVATIONS[a.activation],
        "layer_norm_epsilon": a.norm_eps,
    }


def _llama(a: Architecture, t: Tensors) -> Iterator[tuple[str, np.ndarray]]:
    yield "model.embed_tokens.weight", t["embed.weight"]
    yield "model.norm.weight", t["final_norm.weight"]
    for i, block in enumerate(a.blocks):
        ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
        q, k, v = split_qkv(block, t[ours + "attn.qkv.weight"])
        gate, up = np.split(t[ours + "ffn.up.weight"], 2)
        yield theirs + "self_attn.q_proj.weight", q
        yield theirs + "self_attn.k_proj.weight", k
        yield theirs + "self_attn.v_proj.weight", v
        yield theirs + "self_attn.o_proj.weight", t[ours + "attn.out.weight"]
        yield theirs + "mlp.gate_proj.weight", gate
        yield theirs + "mlp.up_proj.weight", up
        yield theirs + "mlp.down_proj.weight", t[ours + "ffn.down.weight"]
        yield theirs + "input_layernorm.weight", t[ours + "norms.0.attn.weight"]
        yield theirs + "post_attention_layernorm.weight", t[ours + "norms.0.ffn.weight"]


def _gpt2(a: Architecture, t: Tensors) -> Iterator[tuple[str, np.ndarray]]:
    yield "transformer.wte.weight", t["embed.weight"]
    yield "transformer.wpe.weight", t["pos_embed.weight"]
    parts = {"attn.c_attn": "attn.qkv", "attn.c_proj": "attn.out"}
    parts.update({"mlp.c_fc": "ffn.up", "mlp.c_proj": "ffn.down"})
    norms = {"ln_1": "norms.0.attn", "ln_2": "norms.0.ffn"}
    for i in range(a.n_layers):
        for theirs, ours in parts.items():
            yield f"transformer.h.{i}.{theirs}.weight", t[f"blocks.{i}.{ours}.weight"].T
            yield f"transformer.h.{i}.{theirs}.bias", t[f"blocks.{i}.{ours}.bias"]
        for theirs, ours in norms.items():
            for part in ("weight", "bias"):
                yield f"transformer.h.{i}.{theirs}.{part}", t[f"blocks.{i}.{ours}.{part}"]
    for part in ("weight", "bias"):
        yield f"transformer.ln_f.{part}", t[f"final_norm.{part}"]


def placeholder_tokenizer(vocab_size: int) -> str:
    """A tokenizer.json with as many words as ids, for weights that have no language."""
    words = {f"word{i}": i for i in range(vocab_size)}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "word0"}
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model})


def split_qkv(block: BlockSpec, stacked: np.ndarray) -> list[np.ndarray]:
    """Queries, keys and values of a stacked matrix or bias."""
    n_query, n_key = block.n_head * block.head_dim, block.n_kv_head * block.head_dim
    return np.split(stacked, [n_query, n_query + n_key])
