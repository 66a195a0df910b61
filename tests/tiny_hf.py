"""Small real Hugging Face folders, one for each family, written by transformers itself.

The configurations are those of the public models, odd options kept and sizes reduced: OPT-350M's
norms behind the sums and projections, Pythia's quarter of a head, SmolLM2's grouped heads. The
weights are random, but large enough that a wrong sign, order or place shows in the logits.
"""

import os
import shutil

import pytest
from doubles import write_tokenizer

VOCAB = 280
TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)

_OPT = {
    "hidden_size": 48, "ffn_dim": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "word_embed_proj_dim": 48, "max_position_embeddings": 64, "vocab_size": VOCAB,
}  # fmt: skip
_NEOX = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 64, "vocab_size": VOCAB, "rotary_pct": 0.25,
}  # fmt: skip
_GPT2 = {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64, "vocab_size": VOCAB}
_LLAMA = {
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "vocab_size": VOCAB,
    "rms_norm_eps": 1e-5, "rope_theta": 5000.0,
}  # fmt: skip

# Name -> (model_type, fields of the configuration).
FAMILIES = {
    "opt-125m": ("opt", _OPT),
    "opt-350m": ("opt", {**_OPT, "word_embed_proj_dim": 24, "do_layer_norm_before": False}),
    "opt-untied-gelu": (
        "opt",
        {**_OPT, "tie_word_embeddings": False, "activation_function": "gelu"},
    ),
    "opt-without-biases": ("opt", {**_OPT, "enable_bias": False}),
    "gpt2": ("gpt2", _GPT2),
    "gpt2-untied": ("gpt2", {**_GPT2, "tie_word_embeddings": False}),
    "cerebras-gpt": ("gpt2", {**_GPT2, "n_inner": 96, "activation_function": "gelu"}),
    "pythia": ("gpt_neox", _NEOX),
    "neox-sequential": ("gpt_neox", {**_NEOX, "use_parallel_residual": False, "rotary_pct": 1.0}),
    "neox-tied": ("gpt_neox", {**_NEOX, "tie_word_embeddings": True, "attention_bias": False}),
    "smollm2": ("llama", {**_LLAMA, "tie_word_embeddings": True}),
    "llama-untied": ("llama", {**_LLAMA, "num_key_value_heads": 6}),
    "llama-with-biases": ("llama", {**_LLAMA, "attention_bias": True, "mlp_bias": True}),
}


def transformers_library():
    """The reference; the test is skipped where it is missing. Quiet, and never online."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def random_model(name, **changes):
    """A transformers model of one of ``FAMILIES``, in evaluation mode."""
    import torch

    transformers = transformers_library()
    kind, fields = FAMILIES[name]
    config = transformers.AutoConfig.for_model(kind, **{**fields, **changes})
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            is_norm = "norm" in key or ".ln_" in key
            spread = 0.3 if parameter.dim() == 1 else 0.15  # the libraries' own 0.02 hides errors
            parameter.normal_(1.0 if is_norm and key.endswith("weight") else 0.0, spread)
    return model


def save_hf_folder(folder, model, tokenizer=True, **options):
    """Write it as transformers does, with a tokenizer of our own; gives the folder (str)."""
    model.save_pretrained(str(folder), **options)
    if tokenizer:
        write_tokenizer(os.path.join(str(folder), "tokenizer.json"), VOCAB)
    return str(folder)


def copy_folder(source, target):
    """A copy that a test may damage; gives it (str)."""
    shutil.copytree(source, str(target))
    return str(target)
