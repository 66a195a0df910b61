r"""``model.merino``: weights laid out as the native decoder computes with them, used in place.

The one idea: the file *is* the memory of the model. It is mapped read-only, every tensor begins on
a 64-byte line, and one layout serves AVX-512, AVX2 and NEON, so that opening copies nothing and
processes share it. Nothing names the tensors: they come in the order of ``weight_shapes``, each
with its shape and place, and a reader checks all of these against the architecture first.

All numbers are little-endian; u32 and u64 are unsigned, f32 and f16 are IEEE 754::

    header, 64 bytes
       0  "MERINO\0\2" or "MERINO\0\3"; the last byte is the version of the format
       8  u64 bytes of the whole file
      16  u32 offset of the config, 64;  u32 blocks;  u32 tensors;  u32 offset of the tensor table
      32  u64 offset of the data, a multiple of 4096
      40  24 zero bytes
    config, 64 bytes
       0  u32 vocab_size, max_seq_len, embed_dim, norm (0 layernorm, 1 rmsnorm)
      16  f32 norm_eps;  u32 position (0 learned, 1 rope);  f32 rope_base
      28  u32 activation (0 gelu, 1 gelu_tanh, 2 relu, 3 silu), gated_ffn, attention_bias,
          ffn_bias, tie_embeddings
      48  u32 norm_place (0 pre, 1 post), no_final_norm, parallel_residual, 0
    blocks, 32 bytes each
       0  u32 d_model, n_head, n_kv_head, head_dim, d_ff, depth, joint_in (width before the joint,
          0 without one), n_rotated (channels of a head that rope turns; 0 for all of them)
    tensors, 32 bytes each
       0  u32 kind (0 F32, 1 Q8, 2 Q4), n_out (rows; 1 for a vector), n_in (columns), 0
      16  u64 offset from the start of the file, a multiple of 64;  u64 bytes
    data, with zero bytes between the tensors

F32 holds rows as they are. Vectors (norms, biases) and ``pos_embed`` are always F32. Q8 and Q4
hold a matrix [n_out, n_in] whose rows are padded to panels of 16 and whose columns to blocks of 32
that share a scale. First come all quants, panel by panel, block by block; the 32 columns of a
block are 8 groups of 4, and a group is 64 values: byte 4 r + c belongs to row r, column c.

- Q8: a group is 64 int8; 512 bytes a block. value = scale * q
- Q4: q is 0 to 15, value = scale * q + minimum. Byte i of the j-th 64 bytes (j = 0 to 3) holds byte
  i of group j in its low four bits and of group j + 4 in its high four; 256 bytes a block.

Then come the scales: for each panel, for each block, 16 f16, one a row; and for Q4 the minimums, in
the same order.

Versions: 1 had no minimums (the value was scale * (q - 8)), and nothing reads it. 3 is 2 with
norm_place, no_final_norm, parallel_residual and n_rotated, which are zero in 2. A decoder for which
all of them are zero is written as version 2, so a reader that does not know them refuses just the
files that it would read wrongly.

This module deals in sizes and offsets; it knows no numpy and reads no tensor. ``native_head`` turns
what stands before the data into bytes.
"""

import os
from typing import BinaryIO, Dict, NamedTuple, Tuple

from merino_edge.errors import FormatError
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.magic import check_magic
from merino_edge.formats.native_head import (
    MAGIC,
    NEWEST,
    head_bytes,
    head_size,
    kind_at,
    part_at,
)
from merino_edge.formats.weights import PAGE_BYTES, Shape, weight_shapes

NATIVE_FILE = "model.merino"
F32, Q8, Q4 = 0, 1, 2
KINDS = {"fp32": F32, "int8": Q8, "int4": Q4, "int4-all": Q4}
EMBED = "embed.weight"
WORDS = (EMBED, "head.weight")
PANEL_ROWS, BLOCK_COLUMNS, LINE_BYTES = 16, 32, 64
BLOCK_BYTES = {Q8: 512, Q4: 256}  # quants of 16 rows x 32 columns
SCALE_BYTES = {Q8: 2, Q4: 4}  # of a row and block: an f16 scale, an f16 minimum


class NativeTensor(NamedTuple):
    """Where one tensor lies: kind, rows, columns, offset from the file's start, bytes."""

    kind: int
    n_out: int
    n_in: int
    offset: int
    n_bytes: int

    @property
    def n_panels(self) -> int:
        """Panels of 16 rows, the last one padded."""
        return _ceil(self.n_out, PANEL_ROWS)

    @property
    def n_blocks(self) -> int:
        """Blocks of 32 columns, the last one padded."""
        return _ceil(self.n_in, BLOCK_COLUMNS)

    @property
    def scales_offset(self) -> int:
        """Of the scales, from the start of the file; the end of the tensor for F32."""
        quants = 0 if self.kind == F32 else self.n_panels * self.n_blocks * BLOCK_BYTES[self.kind]
        return self.offset + (quants or self.n_bytes)

    @property
    def minimums_offset(self) -> int:
        """Of the minimums, from the start of the file; the end of the tensor where it has none."""
        if self.kind == F32:
            return self.scales_offset
        return self.scales_offset + 2 * self.n_panels * self.n_blocks * PANEL_ROWS


class Plan(NamedTuple):
    """A file before it is written.

    Attributes:
        head: Its first bytes: header, config, blocks, tensor table.
        tensors: Name -> place, in the order of the file.
        file_bytes: Its length.
    """

    head: bytes
    tensors: Dict[str, NativeTensor]
    file_bytes: int


def tensor_kinds(architecture: Architecture, precision: str) -> Dict[str, int]:
    """Name -> kind: matrices in the precision (one of ``KINDS``), the rest F32.

    With int4, what stands for words stays in int8: 4 bits there, which is "int4-all", cost 6 or 7 %
    of perplexity (export.quantise and benchmarks/native say where that was seen).
    """
    kinds = {}
    for name, shape in weight_shapes(architecture).items():
        is_matrix = len(shape) == 2 and name != "pos_embed.weight"
        of_words = precision == "int4" and name in WORDS
        kinds[name] = (Q8 if of_words else KINDS[precision]) if is_matrix else F32
    return kinds


def plan(architecture: Architecture, kinds: Dict[str, int]) -> Plan:
    """Lay a file out: its head, and the place of every tensor.

    Args:
        architecture: The decoder.
        kinds: Name -> F32, Q8 or Q4, as ``tensor_kinds`` gives them.
    """
    shapes = weight_shapes(architecture)
    position = data_offset = _ceil(head_size(architecture), PAGE_BYTES) * PAGE_BYTES
    tensors = {}  # type: Dict[str, NativeTensor]
    for name, shape in shapes.items():
        n_out, n_in = _rows_columns(shape)
        n_bytes = tensor_bytes(kinds[name], n_out, n_in)
        tensors[name] = NativeTensor(kinds[name], n_out, n_in, position, n_bytes)
        position = _ceil(position + n_bytes, LINE_BYTES) * LINE_BYTES
    head = head_bytes(architecture, tensors.values(), data_offset, position)
    return Plan(head, tensors, position)


def tensor_bytes(kind: int, n_out: int, n_in: int) -> int:
    """Bytes of a tensor: rows as they are, or padded panels of quants and their scales."""
    if kind == F32:
        return 4 * n_out * n_in
    n_blocks = _ceil(n_out, PANEL_ROWS) * _ceil(n_in, BLOCK_COLUMNS)
    return n_blocks * (BLOCK_BYTES[kind] + PANEL_ROWS * SCALE_BYTES[kind])


def read_tensors(path: str, architecture: Architecture) -> Dict[str, NativeTensor]:
    """The places of all tensors, after every byte of the head was checked.

    Args:
        path: The file.
        architecture: What the file must hold, from the bundle's manifest.

    Raises:
        FormatError: Missing, cut short, damaged, or of another architecture.
        SchemaVersionError: Written by another version.
    """
    try:
        with open(path, "rb") as stream:
            return _read_head(stream, os.path.getsize(path), path, architecture)
    except (FileNotFoundError, IsADirectoryError):
        raise FormatError("the file does not exist.", path)


def _read_head(
    stream: BinaryIO, file_bytes: int, path: str, architecture: Architecture
) -> Dict[str, NativeTensor]:
    head = stream.read(head_size(architecture))
    check_magic(head, MAGIC, "a native model file", path, NEWEST)
    kinds = _stored_kinds(head, path, architecture)
    expected = plan(architecture, kinds)
    if len(head) < len(expected.head) or file_bytes != expected.file_bytes:
        raise FormatError(
            "the file has {} bytes, the architecture needs {}.".format(
                file_bytes, expected.file_bytes
            ),
            path,
            hint="the file was cut short or is of another model; copy it again.",
        )
    # The layout leaves no freedom, so one comparison checks every size and offset in the file.
    if head != expected.head:
        at = next(i for i, (a, b) in enumerate(zip(head, expected.head)) if a != b)
        raise FormatError(
            "byte {} is {}, the architecture says {}.".format(at, head[at], expected.head[at]),
            path,
            part_at(at, architecture),
        )
    return expected.tensors


def _stored_kinds(head: bytes, path: str, architecture: Architecture) -> Dict[str, int]:
    """The kinds are the one thing in the head that the architecture does not say."""
    kinds = {}
    for index, name in enumerate(weight_shapes(architecture)):
        kind = kind_at(head, index, architecture)
        if kind is None:
            raise FormatError("the file ends inside its tensor table.", path, name)
        if kind not in (F32, Q8, Q4):
            raise FormatError("{} is no kind of tensor.".format(kind), path, name)
        kinds[name] = kind
    _check_vectors(kinds, path, architecture)
    return kinds


def _check_vectors(kinds: Dict[str, int], path: str, architecture: Architecture) -> None:
    for name, kind in tensor_kinds(architecture, "int8").items():
        if kind == F32 and kinds[name] != F32:
            raise FormatError("vectors and positions must be float32.", path, name)


def _rows_columns(shape: Shape) -> Tuple[int, int]:
    return (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])


def _ceil(value: int, step: int) -> int:
    return -(-value // step)
