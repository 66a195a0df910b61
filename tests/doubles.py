"""Small real things to test with. Each helper says what it promises.

Readable by Python 3.6, because the device's tests use it too.
"""

import math
import os

import numpy as np

from merino_edge.formats import bundle as bundles
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.formats.manifest import (
    SCHEMA,
    BundleManifest,
    ChatFormat,
    GenerationDefaults,
    KVCacheSpec,
    RoleFormat,
)
from merino_edge.formats.weights import weight_shapes, write_weights

END_OF_TEXT = "<|end|>"
TEXT = [
    "The sheep sleeps on the hill, and the shepherd counts the sheep.",
    "A merino is a sheep; the board is small; the model fits the board.",
    "Grüße aus Genève, 羊は丘で眠る。🐑",
]


def tiny_architecture(**changes):
    """Two blocks of width 16 and 24 (so there is a joint), the first applied twice; 300 tokens."""
    fields = {
        "blocks": (
            BlockSpec(d_model=16, n_head=2, n_kv_head=2, d_ff=32, depth=2),
            BlockSpec(d_model=24, n_head=2, n_kv_head=2, d_ff=40, depth=1),
        ),
        "vocab_size": 300,
        "max_seq_len": 48,
    }
    fields.update(changes)
    return Architecture(**fields)


def llama_architecture(**changes):
    """The same size, the Llama family's way: RMSNorm, RoPE, grouped heads, gated SiLU."""
    block = BlockSpec(d_model=16, n_head=4, n_kv_head=2, d_ff=24, depth=1)
    fields = {
        "blocks": (block, block),
        "norm": "rmsnorm",
        "position": "rope",
        "activation": "silu",
        "gated_ffn": True,
        "attention_bias": False,
        "ffn_bias": False,
    }
    fields.update(changes)
    return tiny_architecture(**fields)


def random_tensors(architecture, seed):
    """Every stored tensor as float32, scaled so that activations neither die nor explode."""
    rng = np.random.RandomState(seed)
    tensors = {}
    for name, shape in weight_shapes(architecture).items():
        values = rng.standard_normal(shape)
        if len(shape) == 2:
            values *= 1.5 / math.sqrt(shape[1])
        elif name.endswith(".weight"):
            values = 1.0 + 0.1 * values  # norms
        else:
            values *= 0.1
        tensors[name] = values.astype(np.float32)
    return tensors


def write_tokenizer(path, vocab_size):
    """A byte-level BPE trained on TEXT: any text has an encoding and comes back unchanged."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.save(str(path))


CHAT = ChatFormat(
    roles={
        "system": RoleFormat("[system] ", "\n"),
        "user": RoleFormat("[user] ", "\n"),
        "assistant": RoleFormat("[assistant] ", "\n"),
    },
    generation_prefix="[assistant] ",
)


def tiny_bundle(path, architecture=None, seed=0, context_len=None, tokenizer=True):
    """A real bundle without ONNX: random weights, tokenizer, chat format; gives its path (str)."""
    a = architecture or tiny_architecture()
    path = str(path)
    with bundles.folder_in_place(path, bundles.MANIFEST) as folder:
        roles = {"model.safetensors": "weights"}
        tensors = random_tensors(a, seed)
        rows = [(name, "F32", t.shape, t.tobytes()) for name, t in tensors.items()]
        write_weights(os.path.join(folder, "model.safetensors"), rows)
        if tokenizer:
            roles["tokenizer.json"] = "tokenizer"
            write_tokenizer(os.path.join(folder, "tokenizer.json"), a.vocab_size)
        manifest = _manifest(a, tensors, folder, roles, context_len or a.max_seq_len)
        jsonio.write_record(os.path.join(folder, bundles.MANIFEST), SCHEMA, manifest)
    return path


def edit_manifest(path, **fields):
    """Write other fields into a bundle's manifest, as somebody with an editor could."""
    manifest_path = os.path.join(str(path), bundles.MANIFEST)
    manifest = jsonio.read_record(manifest_path, SCHEMA, BundleManifest)
    jsonio.write_record(manifest_path, SCHEMA, manifest._replace(**fields))


def _manifest(a, tensors, folder, roles, context_len):
    return BundleManifest(
        name="tiny",
        target="host",
        precision="fp32",
        architecture=a,
        n_params=sum(t.size for t in tensors.values()),
        kv_cache=KVCacheSpec(
            layers=[(block.n_kv_head, block.head_dim) for _, _, block in a.layers()],
            context_len=context_len,
        ),
        files=bundles.file_entries(folder, roles),
        generation=GenerationDefaults(eos_token_ids=[0]),
        golden=[],
        made_by="tests",
        chat=CHAT,
        provenance={"weights": "random"},
    )
