"""Small real things to test with. Each helper says what it promises.

Readable by Python 3.6, because the device's tests use it too.
"""

import math
import os

import numpy as np

from merino_edge.formats import bundle as bundles
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.formats.engine_record import EngineKey
from merino_edge.formats.engine_spec import ShapeProfile
from merino_edge.formats.manifest import (
    SCHEMA,
    BundleManifest,
    ChatFormat,
    GenerationDefaults,
    KVCacheSpec,
    RoleFormat,
)
from merino_edge.formats.tokenizer_file import portable_json
from merino_edge.formats.weights import weight_shapes, write_weights

NANO_KEY = EngineKey(
    onnx_sha256="a" * 64,
    weights_sha256="b" * 64,
    backend="tensorrt",
    tensorrt="8.2.1.8",
    cuda="10.2",
    compute_capability="5.3",
    gpu_name="NVIDIA Tegra X1",
    l4t="32.7.1",
    precision="fp16",
    profiles=[ShapeProfile("decode", {"q_len": (1, 1, 1)})],
    builder_options={},
)
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


def neox_architecture(**changes):
    """The same size, GPT-NeoX's way: parallel sublayers, a quarter of each head rotated."""
    block = BlockSpec(d_model=16, n_head=2, n_kv_head=2, d_ff=24, depth=1)
    fields = {
        "blocks": (block, block),
        "position": "rope",
        "rope_fraction": 0.25,
        "parallel_residual": True,
        "tie_embeddings": False,
    }
    fields.update(changes)
    return tiny_architecture(**fields)


def post_norm_architecture(**changes):
    """The same size, OPT-350M's way: norms after the sum, none at the end, a narrow embedding."""
    block = BlockSpec(d_model=16, n_head=2, n_kv_head=2, d_ff=24, depth=1)
    fields = {
        "blocks": (block, block),
        "activation": "relu",
        "norm_place": "post",
        "final_norm": False,
        "d_embed": 12,
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
    text = portable_json(tokenizer.to_str())  # for any version, whichever trained it
    jsonio.write_bytes_atomic(str(path), text.encode("utf-8"))


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


def native_bundle(path, architecture=None, seed=0, precision="int8"):
    """As ``tiny_bundle``, with the weights packed for the native decoder instead."""
    from merino_edge.export.native_pack import pack  # a workstation's

    path = tiny_bundle(path, architecture, seed)
    bundle = bundles.Bundle.open(path)
    a = bundle.manifest.architecture
    os.remove(bundle.file("weights"))
    pack(os.path.join(path, "model.merino"), a, random_tensors(a, seed), precision)
    roles = {"model.merino": "native", "tokenizer.json": "tokenizer"}
    edit_manifest(path, precision=precision, files=bundles.file_entries(path, roles))
    return path


def speaking_bundle(path, seed=0):
    """A native bundle with the table of pieces that programs in C turn tokens into text with."""
    from merino_edge.formats.pieces_file import pieces_of_tokenizer, write_pieces

    made = native_bundle(path, seed=seed)
    with open(os.path.join(made, "tokenizer.json"), encoding="utf-8") as stream:
        pieces = pieces_of_tokenizer(stream.read())
    write_pieces(os.path.join(made, "pieces.bin"), pieces, [0])
    return made


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


def write_tree(root, files):
    """A recorded machine: text files by their path from /, below ``root`` (which is given back)."""
    for name, text in files.items():
        path = os.path.join(str(root), name.lstrip("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(text.encode("utf-8"))
    return str(root)


NVPMODEL_CONF = """
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=5W >
CPU_ONLINE CORE_0 1
"""
JETSON_NANO = {
    "/proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
    "/etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, "
    "EABI: aarch64, DATE: Sat Feb 19 17:05:08 UTC 2022\n",
    "/etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 18.04.6 LTS"\n',
    "/proc/cpuinfo": "".join(
        f"processor\t: {core}\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32\n"
        "CPU implementer\t: 0x41\nCPU part\t: 0xd07\n\n"
        for core in range(4)
    ),
    "/proc/meminfo": "MemTotal:        4051024 kB\nMemFree:          300000 kB\n"
    "MemAvailable:    2900000 kB\nSwapTotal:       2025504 kB\n",
    "/proc/loadavg": "0.12 0.20 0.25 1/340 7010\n",
    "/proc/stat": "cpu  1000 0 500 8000 500 0 0 0 0 0\ncpu0 250 0 125 2000 125 0 0 0 0 0\n",
    "/proc/self/environ": "HOME=/home/user\0OPENBLAS_CORETYPE=ARMV8\0",
    "/sys/devices/system/cpu/cpu0/cache/index0/size": "32K\n",
    "/sys/devices/system/cpu/cpu0/cache/index2/size": "2048K\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "/sys/class/thermal/thermal_zone0/type": "AO-therm\n",
    "/sys/class/thermal/thermal_zone0/temp": "38000\n",
    "/sys/class/thermal/thermal_zone1/type": "CPU-therm\n",
    "/sys/class/thermal/thermal_zone1/temp": "34500\n",
    "/sys/class/thermal/thermal_zone2/type": "GPU-therm\n",
    "/sys/class/thermal/thermal_zone2/temp": "33000\n",
    "/sys/class/thermal/thermal_zone4/type": "PMIC-Die\n",
    "/sys/class/thermal/thermal_zone4/temp": "100000\n",
    "/var/lib/nvpmodel/status": "pmode:0000\n",
    "/etc/nvpmodel.conf": NVPMODEL_CONF,
    "/usr/lib/aarch64-linux-gnu/libnvinfer.so.8": "",
    "/usr/lib/aarch64-linux-gnu/libnvinfer.so.8.2.1": "",
    "/usr/local/cuda/version.txt": "CUDA Version 10.2.300\n",
}
