"""Small real GGUF files, and a decoder that reads them another way.

``write_gguf`` writes with the gguf package's own writer; ``twin_logits`` reads with its own reader
and computes in numpy, head by head, in the neighbour-pair order of the file. It shares no code with
the importer, which is what makes agreement mean something.
"""

import json

import gguf
import numpy as np
from doubles import write_tokenizer

D, N_HEAD, N_KV, D_FF, N_BLOCK, VOCAB, CONTEXT = 64, 4, 2, 96, 2, 280, 40
BASE, EPS = 5000.0, 1e-5
TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def tokenizer_parts(folder):
    """(tokens by id, merges, types) of a real byte-level BPE whose token 0 is a control token."""
    path = folder / "given-tokenizer.json"
    write_tokenizer(path, VOCAB)
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    return tokens, merges, [3] + [1] * (len(tokens) - 1)


def tiny_weights(seed=0, tied=True):
    """File name -> float32 array, for two blocks."""
    rng = np.random.default_rng(seed)
    kv = D // N_HEAD * N_KV
    shapes = {"token_embd.weight": (VOCAB, D), "output_norm.weight": (D,)}
    if not tied:
        shapes["output.weight"] = (VOCAB, D)
    for b in range(N_BLOCK):
        layer = {
            "attn_q": (D, D), "attn_k": (kv, D), "attn_v": (kv, D), "attn_output": (D, D),
            "ffn_gate": (D_FF, D), "ffn_up": (D_FF, D), "ffn_down": (D, D_FF),
            "attn_norm": (D,), "ffn_norm": (D,),
        }  # fmt: skip
        shapes.update({f"blk.{b}.{name}.weight": shape for name, shape in layer.items()})
    return {
        name: (rng.standard_normal(s) / 6 + (1 if len(s) == 1 else 0)).astype(np.float32)
        for name, s in shapes.items()
    }


def write_gguf(folder, weights=None, storage="F32", arch="llama", template=TEMPLATE, **changes):
    """Write a model; ``changes`` sets metadata keys ("__" for "."), None leaves one out."""
    tokens, merges, types = tokenizer_parts(folder)
    metadata = {
        "llama.block_count": N_BLOCK, "llama.context_length": CONTEXT,
        "llama.embedding_length": D, "llama.feed_forward_length": D_FF,
        "llama.attention.head_count": N_HEAD, "llama.attention.head_count_kv": N_KV,
        "llama.attention.layer_norm_rms_epsilon": EPS, "llama.rope.freq_base": BASE,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.token_type": types, "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.chat_template": template,
    }  # fmt: skip
    metadata.update({key.replace("__", "."): value for key, value in changes.items()})
    path = folder / "tiny.gguf"
    writer = gguf.GGUFWriter(str(path), arch)
    for key, value in metadata.items():
        _add(writer, key, value)
    for name, array in (weights or tiny_weights()).items():
        kind = gguf.GGMLQuantizationType[storage if array.ndim == 2 else "F32"]
        writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def _add(writer, key, value):
    add = {
        bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32,
        str: writer.add_string, list: writer.add_array,
    }  # fmt: skip
    if value is not None:
        add[type(value)](key, value)


def twin_logits(path, ids, n_head=N_HEAD, n_kv=N_KV, base=BASE, eps=EPS):
    """Logits of every position, [T, vocab], in float64 from the file's own tensors."""
    reader = gguf.GGUFReader(path)
    w = {t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors}
    x = w["token_embd.weight"][ids]
    b = 0
    while f"blk.{b}.attn_q.weight" in w:
        layer = {n.split(".")[2]: v for n, v in w.items() if n.startswith(f"blk.{b}.")}
        x = x + _attention(_rms(x, layer["attn_norm"], eps), layer, n_head, n_kv, base)
        h = _rms(x, layer["ffn_norm"], eps)
        gate = h @ layer["ffn_gate"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ layer["ffn_up"].T)) @ layer["ffn_down"].T
        b += 1
    return _rms(x, w["output_norm.weight"], eps) @ w.get("output.weight", w["token_embd.weight"]).T


def _rms(x, scale, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * scale


def _attention(x, layer, n_head, n_kv, base):
    size = len(layer["attn_q"]) // n_head
    out = np.zeros((len(x), n_head * size))
    for h in range(n_head):
        g = h * n_kv // n_head
        q = _rotate(x @ layer["attn_q"][h * size : (h + 1) * size].T, base)
        k = _rotate(x @ layer["attn_k"][g * size : (g + 1) * size].T, base)
        v = x @ layer["attn_v"][g * size : (g + 1) * size].T
        scores = q @ k.T / np.sqrt(size)
        scores[np.triu_indices(len(x), 1)] = -np.inf
        p = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, h * size : (h + 1) * size] = p / p.sum(-1, keepdims=True) @ v
    return out @ layer["attn_output"].T


def _rotate(x, base):
    """Neighbours 2i and 2i + 1 turn together, as complex numbers."""
    n, size = x.shape
    angles = np.outer(np.arange(n), base ** (-np.arange(0, size, 2) / size))
    turned = (x[:, 0::2] + 1j * x[:, 1::2]) * np.exp(1j * angles)
    return np.stack((turned.real, turned.imag), -1).reshape(n, size)
