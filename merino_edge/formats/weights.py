"""Which tensors a decoder stores: names, shapes, and the file that holds them.

The one idea: ``weight_shapes(architecture)`` is the single list. The torch model, the ONNX
initializers, the numpy reference and the parameter count all equal it, and tests hold them to
that. A shared block appears once, whatever its depth.

The file is safetensors, written so that the data starts on a page and every large tensor on a
64-byte line: ONNX points into it as external data, numpy and torch map it, and nobody copies.
Layout of the format: 8 bytes little-endian header length, a JSON header, then the raw bytes.
This module does not know numpy: it deals in offsets.
"""

import json
import os
import struct
from typing import Any, BinaryIO, Dict, Iterable, List, NamedTuple, Tuple

from merino_edge.errors import FormatError
from merino_edge.formats.architecture import Architecture

PAGE_BYTES = 4096
MAX_HEADER_BYTES = 64 << 20
DTYPE_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "U8": 1,
    "I8": 1,
    "BOOL": 1,
}

Shape = Tuple[int, ...]


class TensorEntry(NamedTuple):
    """Where one tensor lies in a file. ``offset`` counts from the start of the file, in bytes."""

    dtype: str
    shape: Shape
    offset: int
    n_bytes: int


def weight_shapes(a: Architecture) -> Dict[str, Shape]:
    """Every stored tensor with its shape, in the order it is used.

    Matrices are (outputs, inputs). ``attn.qkv`` stacks queries, keys and values; a gated
    ``ffn.up`` stacks gate and up. Norms are per application, matrices per block.
    """
    first, last = a.blocks[0], a.blocks[-1]
    shapes = {"embed.weight": (a.vocab_size, a.embed_dim)}  # type: Dict[str, Shape]
    if a.position == "learned":
        shapes["pos_embed.weight"] = (a.max_seq_len, first.d_model)
    joints = a.joints()
    for b, block in enumerate(a.blocks):
        prefix = "blocks.{}.".format(b)
        if b in joints:
            shapes[prefix + "joint.weight"] = (block.d_model, joints[b][0])
        shapes.update(_block_shapes(a, prefix, b))
    if a.final_norm:
        shapes.update(_norm_shapes(a, "final_norm", last.d_model))
    if a.embed_dim != last.d_model:
        shapes["head_joint.weight"] = (a.embed_dim, last.d_model)
    if not a.tie_embeddings:
        shapes["head.weight"] = (a.vocab_size, a.embed_dim)
    return shapes


def _block_shapes(a: Architecture, prefix: str, index: int) -> Dict[str, Shape]:
    block = a.blocks[index]
    d_model, heads_dim = block.d_model, block.n_head * block.head_dim
    d_up = block.d_ff * (2 if a.gated_ffn else 1)
    shapes = {}  # type: Dict[str, Shape]
    shapes.update(_linear(prefix + "attn.qkv", block.qkv_dim, d_model, a.attention_bias))
    shapes.update(_linear(prefix + "attn.out", d_model, heads_dim, a.attention_bias))
    shapes.update(_linear(prefix + "ffn.up", d_up, d_model, a.ffn_bias))
    shapes.update(_linear(prefix + "ffn.down", d_model, block.d_ff, a.ffn_bias))
    for i in range(block.depth):
        shapes.update(_norm_shapes(a, "{}norms.{}.attn".format(prefix, i), d_model))
        shapes.update(_norm_shapes(a, "{}norms.{}.ffn".format(prefix, i), d_model))
    return shapes


def _linear(name: str, n_out: int, n_in: int, bias: bool) -> Dict[str, Shape]:
    shapes = {name + ".weight": (n_out, n_in)}  # type: Dict[str, Shape]
    if bias:
        shapes[name + ".bias"] = (n_out,)
    return shapes


def _norm_shapes(a: Architecture, name: str, width: int) -> Dict[str, Shape]:
    shapes = {name + ".weight": (width,)}  # type: Dict[str, Shape]
    if a.norm == "layernorm":
        shapes[name + ".bias"] = (width,)
    return shapes


def check_names(found: Dict[str, Shape], a: Architecture, path: str) -> None:
    """Refuse a set of tensors that is not exactly the architecture's.

    Raises:
        FormatError: A tensor is missing, unknown, or has another shape; the first is named.
    """
    expected = weight_shapes(a)
    for name in expected:
        if name not in found:
            raise FormatError("the architecture needs a tensor that is missing.", path, name)
        if tuple(found[name]) != expected[name]:
            raise FormatError(
                "shape is {}, the architecture says {}.".format(tuple(found[name]), expected[name]),
                path,
                name,
            )
    for name in found:
        if name not in expected:
            raise FormatError("the architecture has no such tensor.", path, name)


def plan_file(tensors: Dict[str, Tuple[str, Shape]]) -> Tuple[bytes, Dict[str, TensorEntry]]:
    """Lay out a file: the header bytes, and where each tensor goes.

    Tensors whose size is a multiple of 64 bytes come first, so that all of them are aligned:
    safetensors allows no gaps.
    """
    sizes = {name: _n_bytes(dtype, shape) for name, (dtype, shape) in tensors.items()}
    order = sorted(tensors, key=lambda name: sizes[name] % 64 != 0)
    header, position = {}, 0  # type: Dict[str, Any], int
    for name in order:
        dtype, shape = tensors[name]
        end = position + sizes[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    start = -(-(8 + len(text)) // PAGE_BYTES) * PAGE_BYTES
    text += b" " * (start - 8 - len(text))
    entries = {
        name: TensorEntry(
            tensors[name][0],
            tuple(tensors[name][1]),
            start + header[name]["data_offsets"][0],
            sizes[name],
        )
        for name in order
    }
    return struct.pack("<Q", len(text)) + text, entries


def write_weights(path: str, tensors: Iterable[Tuple[str, str, Shape, Any]]) -> None:
    """Write (name, dtype, shape, buffer) tensors; not atomic, meant for a temporary folder.

    Raises:
        OSError: The disk is full.
    """
    buffers = {name: (dtype, shape, data) for name, dtype, shape, data in tensors}
    head, entries = plan_file({n: (dtype, shape) for n, (dtype, shape, _) in buffers.items()})
    with open(path, "wb") as stream:
        stream.write(head)
        for name in entries:
            stream.write(buffers[name][2])
        stream.flush()
        os.fsync(stream.fileno())


def read_index(path: str) -> Dict[str, TensorEntry]:
    """Names, dtypes, shapes and offsets of a safetensors file; reads the header only.

    Raises:
        FormatError: Truncated, overlapping, or not safetensors.
    """
    try:
        with open(path, "rb") as stream:
            return _parse_header(stream, os.path.getsize(path), path)
    except FileNotFoundError:
        raise FormatError("the file does not exist.", path)


def _parse_header(stream: BinaryIO, file_bytes: int, path: str) -> Dict[str, TensorEntry]:
    prefix = stream.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    if not 2 <= length <= min(MAX_HEADER_BYTES, max(file_bytes - 8, 0)):
        raise FormatError("not a safetensors file (header of {} bytes).".format(length), path)
    try:
        header = json.loads(stream.read(length).decode("utf-8"))
        header.pop("__metadata__", None)
        items = [(n, e["dtype"], tuple(e["shape"]), e["data_offsets"]) for n, e in header.items()]
        entries = {n: _entry(path, n, d, s, 8 + length, o) for n, d, s, o in items}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError("not a safetensors header: {!r}.".format(error), path)
    _check_packing(list(entries.values()), 8 + length, file_bytes, path)
    return entries


def _entry(
    path: str, name: str, dtype: str, shape: Shape, start: int, offsets: List[int]
) -> TensorEntry:
    if dtype not in DTYPE_BYTES:
        raise FormatError("dtype {!r} is not supported.".format(dtype), path, name)
    begin, end = offsets
    if any(type(v) is not int or v < 0 for v in tuple(shape) + (begin, end)):
        raise FormatError("shape and offsets must be whole numbers.", path, name)
    n_bytes = _n_bytes(dtype, shape)
    if end - begin != n_bytes:
        raise FormatError("{} bytes stored, {} expected.".format(end - begin, n_bytes), path, name)
    return TensorEntry(dtype, shape, start + begin, n_bytes)


def _check_packing(entries: List[TensorEntry], start: int, file_bytes: int, path: str) -> None:
    position = start
    for entry in sorted(entries, key=lambda e: (e.offset, e.n_bytes)):
        if entry.offset != position:
            raise FormatError("tensors overlap or leave a gap at byte {}.".format(position), path)
        position += entry.n_bytes
    if position != file_bytes:
        raise FormatError(
            "the file has {} bytes, its header describes {}.".format(file_bytes, position),
            path,
            hint="the file was cut short or appended to; copy it again.",
        )


def _n_bytes(dtype: str, shape: Shape) -> int:
    count = 1
    for dim in shape:
        count *= dim
    return count * DTYPE_BYTES[dtype]
