"""Models that people benchmark, as their public configurations: shapes without weights.

The one idea: a preset is the part of the model's published ``config.json`` that decides shapes and
arithmetic, in its own words, so it is read by the same code as a real folder. The values are those
of the Hugging Face repositories named beside them; what their parameters add up to is compared
with what is published, and with transformers, in the tests.
"""

from typing import Any

_OPT_125M = {  # facebook/opt-125m
    "model_type": "opt",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "ffn_dim": 3072,
    "word_embed_proj_dim": 768,
    "vocab_size": 50272,
    "max_position_embeddings": 2048,
    "activation_function": "relu",
    "do_layer_norm_before": True,
    "bos_token_id": 2,
    "eos_token_id": 2,
}
_PYTHIA_70M = {  # EleutherAI/pythia-70m
    "model_type": "gpt_neox",
    "hidden_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
    "vocab_size": 50304,
    "max_position_embeddings": 2048,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "rotary_pct": 0.25,
    "rotary_emb_base": 10000,
    "use_parallel_residual": True,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_GPT2 = {  # openai-community/gpt2
    "model_type": "gpt2",
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
}

PRESETS: dict[str, dict[str, Any]] = {
    "opt-125m": _OPT_125M,
    "opt-350m": {  # facebook/opt-350m
        **_OPT_125M,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "ffn_dim": 4096,
        "word_embed_proj_dim": 512,
        "do_layer_norm_before": False,
    },
    "pythia-70m": _PYTHIA_70M,
    "pythia-160m": {  # EleutherAI/pythia-160m
        **_PYTHIA_70M,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "cerebras-gpt-111m": {  # cerebras/Cerebras-GPT-111M
        **_GPT2,
        "n_layer": 10,
        "n_inner": 3072,
        "n_positions": 2048,
        "activation_function": "gelu",
    },
    "gpt2": _GPT2,
    "smollm2-135m": {  # HuggingFaceTB/SmolLM2-135M
        "model_type": "llama",
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 100000,
        "rope_interleaved": False,
        "attention_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
}
