"""What a GGUF of the llama family says, in our words: architecture, names, one permutation.

Every ``blk.N`` becomes a block of depth 1. Three things change on the way:

- storage: whatever the file uses (F16, Q8_0, Q4_1, ...) becomes float32, value for value;
- fusion: q, k and v are stacked into ``attn.qkv``, gate and up into ``ffn.up``;
- rotary order: a GGUF of this family pairs neighbours (rows 0 and 1, 2 and 3 of a head rotate
  together), ours pairs halves (rows 0 and d/2), so the rows of q and k are permuted. The angles
  and the dot products stay the same.

The one rule: metadata or tensors that would change the arithmetic and that we do not know are
refused by name. A model that is guessed at gives fluent nonsense, and nobody sees why.
Arrays only; torch is not needed.
"""

from collections.abc import Callable

import numpy as np

from merino_edge.errors import FormatError, SpecError, UnsupportedError
from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.formats.weights import weight_shapes
from merino_edge.model.importers.gguf_file import GGUFFile
from merino_edge.model.importers.parts import Part, Plan, Progress, check_parts, gather, silent

FAMILIES = ("llama",)
_USED = (
    "block_count", "context_length", "embedding_length", "feed_forward_length",
    "attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon",
    "rope.freq_base", "vocab_size",
)  # fmt: skip


def architecture_from_gguf(file: GGUFFile) -> Architecture:
    """Read the metadata.

    Raises:
        FormatError: A value is missing or impossible.
        UnsupportedError: Another family, or a value that changes the arithmetic.
    """
    family = file.get("general.architecture", str)
    if family not in FAMILIES:
        raise UnsupportedError(
            f"{file.path}: the architecture is '{family}'.",
            note=f"supported: {', '.join(FAMILIES)}.",
        )
    try:
        a = _architecture(file, family + ".")
    except SpecError as error:
        raise FormatError(f"the metadata describes no decoder: {error}", file.path) from error
    _refuse_unknown_keys(file, family + ".", a.blocks[0].head_dim)
    return a


def _architecture(file: GGUFFile, key: str) -> Architecture:
    n_blocks = _n_blocks(file, key)
    n_head = file.get(key + "attention.head_count", int)
    block = BlockSpec(
        d_model=file.get(key + "embedding_length", int),
        n_head=n_head,
        n_kv_head=file.get(key + "attention.head_count_kv", int, n_head),
        d_ff=file.get(key + "feed_forward_length", int),
        depth=1,
    )
    return Architecture(
        blocks=(block,) * n_blocks,
        vocab_size=_vocab_size(file, key),
        max_seq_len=file.get(key + "context_length", int),
        norm="rmsnorm",
        norm_eps=file.get(key + "attention.layer_norm_rms_epsilon", float),
        position="rope",
        rope_base=file.get(key + "rope.freq_base", float, 10000.0),
        activation="silu",
        gated_ffn=True,
        attention_bias=False,
        ffn_bias=False,
        tie_embeddings="output.weight" not in file.tensors,
    )


def _n_blocks(file: GGUFFile, key: str) -> int:
    found = file.get(key + "block_count", int)
    if found > len(file.tensors):
        raise FormatError(
            f"{found} blocks, but the file has {len(file.tensors)} tensors.",
            file.path,
            key + "block_count",
        )
    return found


def _vocab_size(file: GGUFFile, key: str) -> int:
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise FormatError("the file has no such tensor.", file.path, "token_embd.weight")
    rows = embedding.shape[0]
    told = file.get(key + "vocab_size", int, rows)
    if told != rows:
        raise FormatError(
            f"{told} tokens, but token_embd.weight has {rows} rows.", file.path, key + "vocab_size"
        )
    return rows


def _refuse_unknown_keys(file: GGUFFile, key: str, head_dim: int) -> None:
    """A key may stand at the value that means "nothing special", and at no other."""
    neutral = {
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.dimension_count": head_dim,
        "rope.scaling.type": "none",
        "rope.scale_linear": 1.0,
        "attention.sliding_window": 0,
        "attention.causal": True,
        "expert_count": 0,
        "expert_used_count": 0,
    }
    for name, value in file.metadata.items():
        short = name.removeprefix(key)
        if short == name or short in _USED:
            continue
        if short not in neutral or isinstance(value, np.ndarray) or value != neutral[short]:
            known = f"only {neutral[short]!r} is supported here" if short in neutral else "unknown"
            raise UnsupportedError(
                f"{file.path}: {name} = {value!r:.60} changes the arithmetic ({known})."
            )
    if file.get("split.count", int, 1) > 1:
        raise UnsupportedError(
            f"{file.path}: one of {file.metadata['split.count']} parts of a model.",
            hint="join the parts into one GGUF file first (llama-gguf-split --merge).",
        )


def tensor_plan(a: Architecture) -> Plan:
    """Our name -> the tensors of the file that are stacked into it, in order."""
    width = a.blocks[0].d_model
    plan: Plan = {"embed.weight": (Part("token_embd.weight", (a.vocab_size, width)),)}
    for b, block in enumerate(a.blocks):
        ours, theirs = f"blocks.{b}.", f"blk.{b}."
        kv_rows = block.n_kv_head * block.head_dim
        up = (block.d_ff, width)
        plan[ours + "attn.qkv.weight"] = (
            Part(theirs + "attn_q.weight", (width, width), _halves(block.n_head)),
            Part(theirs + "attn_k.weight", (kv_rows, width), _halves(block.n_kv_head)),
            Part(theirs + "attn_v.weight", (kv_rows, width)),
        )
        plan[ours + "attn.out.weight"] = (Part(theirs + "attn_output.weight", (width, width)),)
        plan[ours + "ffn.up.weight"] = (
            Part(theirs + "ffn_gate.weight", up),
            Part(theirs + "ffn_up.weight", up),
        )
        plan[ours + "ffn.down.weight"] = (Part(theirs + "ffn_down.weight", (width, block.d_ff)),)
        plan[ours + "norms.0.attn.weight"] = (Part(theirs + "attn_norm.weight", (width,)),)
        plan[ours + "norms.0.ffn.weight"] = (Part(theirs + "ffn_norm.weight", (width,)),)
    plan["final_norm.weight"] = (Part("output_norm.weight", (width,)),)
    if not a.tie_embeddings:
        plan["head.weight"] = (Part("output.weight", (a.vocab_size, width)),)
    return plan


def weights_from_gguf(
    file: GGUFFile, a: Architecture, on_progress: Progress = silent
) -> dict[str, np.ndarray]:
    """All weights under our names, float32.

    Args:
        file: A file that ``check_tensors`` has passed.
        a: Its architecture.
        on_progress: Called with a few words before each tensor.

    Raises:
        FormatError: A tensor holds a NaN or an infinity.
        UnsupportedError: A storage type that cannot be turned into float32.
    """
    shapes = weight_shapes(a)
    return gather(tensor_plan(a), shapes, file.dequantized, "dequantising", on_progress)


def check_tensors(file: GGUFFile, a: Architecture) -> None:
    """The file holds exactly the tensors that its metadata announces; see ``check_parts``."""
    found = {name: tensor.shape for name, tensor in file.tensors.items()}
    note = "biases, experts and rope factors are not supported for this family."
    check_parts(tensor_plan(a), found, file.path, "the metadata", "llama", note)


def _halves(n_head: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: halves_from_neighbours(rows, n_head)


def halves_from_neighbours(rows: np.ndarray, n_head: int) -> np.ndarray:
    """Reorder the rows of each head from (0a 0b 1a 1b ...) to (0a 1a ... 0b 1b ...).

    Args:
        rows: [n_head * head_dim, d_model], pairs of the rotation next to each other.
        n_head: Heads in it.
    """
    n_rows, width = rows.shape
    pairs = rows.reshape(n_head, n_rows // n_head // 2, 2, width)
    return pairs.swapaxes(1, 2).reshape(n_rows, width)
