"""GGUF files for llama.cpp: a model's own file in other types, and a plain decoder of ours.

The one idea: the rounding is llama.cpp's own (``gguf.quants`` is its Python twin), so a peer runs
on weights as its users would have them. Matrices get the type that is asked for; vectors and
positions stay float32, as llama.cpp's own converter leaves them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from hf_folder import family

from merino_edge.errors import UnsupportedError
from merino_edge.formats.architecture import Architecture

EMBEDDING = "token_embd.weight"
_COPIED_BY_WRITER = ("GGUF.", "general.architecture", "general.file_type")
_NAMES = {
    "attn.qkv": "attn_qkv",
    "attn.out": "attn_output",
    "ffn.up": "ffn_up",
    "ffn.down": "ffn_down",
    "norms.0.attn": "attn_norm",
    "norms.0.ffn": "ffn_norm",
}


def requantise(source: str, output: str, body: str, embedding: str) -> None:
    """The same model with its matrices in other types.

    Args:
        source: A GGUF file.
        output: The file to write.
        body: Type of all other matrices, such as "Q8_0".
        embedding: Type of the table of tokens.
    """
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(output, reader.get_field("general.architecture").contents())
    for name, field in reader.fields.items():
        if not name.startswith(_COPIED_BY_WRITER):
            items = field.types[1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], items)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        kind = "F32" if values.ndim == 1 else embedding if tensor.name == EMBEDDING else body
        _add(writer, tensor.name, values, kind)
    _finish(writer)


def write_gpt2(
    output: str, a: Architecture, tensors: Mapping[str, np.ndarray], body: str, embedding: str
) -> None:
    """A plain decoder of GPT-2's kind, without a vocabulary: ids go in, logits come out.

    llama.cpp's GELU is the approximation by tanh, from a table in half precision; ours is exact.
    That changes no speed worth a name, and a test bounds what it changes in the logits.

    Args:
        output: The file to write.
        a: The decoder.
        tensors: By the names of ``formats.weights``.
        body: Type of all other matrices.
        embedding: Type of the table of tokens, which is the head as well.

    Raises:
        UnsupportedError: It is of another kind.
    """
    import gguf

    if family(a) != "gpt2":
        raise UnsupportedError("only decoders of GPT-2's kind are written as GGUF.")
    writer = gguf.GGUFWriter(output, "gpt2")
    _describe(writer, a)
    for name, values in _gpt2_tensors(a, tensors):
        matrix = values.ndim == 2 and name != "position_embd.weight"
        kind = "F32" if not matrix else embedding if name == EMBEDDING else body
        _add(writer, name, values, kind)
    _finish(writer)


def _describe(writer: Any, a: Architecture) -> None:
    block = a.blocks[0]
    writer.add_context_length(a.max_seq_len)
    writer.add_embedding_length(block.d_model)
    writer.add_feed_forward_length(block.d_ff)
    writer.add_block_count(a.n_layers)
    writer.add_head_count(block.n_head)
    writer.add_layer_norm_eps(a.norm_eps)
    writer.add_vocab_size(a.vocab_size)
    writer.add_tokenizer_model("no_vocab")


def _gpt2_tensors(a: Architecture, t: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    yield EMBEDDING, t["embed.weight"]
    yield "position_embd.weight", t["pos_embed.weight"]
    for part in ("weight", "bias"):
        yield f"output_norm.{part}", t[f"final_norm.{part}"]
        for i in range(a.n_layers):
            for ours, theirs in _NAMES.items():
                yield f"blk.{i}.{theirs}.{part}", t[f"blocks.{i}.{ours}.{part}"]


def _add(writer: Any, name: str, values: np.ndarray, kind: str) -> None:
    import gguf

    wanted = gguf.GGMLQuantizationType[kind]
    stored = gguf.quants.quantize(np.ascontiguousarray(values, np.float32), wanted)
    writer.add_tensor(name, stored, raw_dtype=wanted)


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
