"""The head of a native file: all that stands before its data, as bytes.

The one idea: the head follows from the architecture and the places of the tensors, to the last
byte. So there is a way from these to bytes, and none back: a reader makes the head that should be
there and compares. Only the kinds of the tensors have to be read (``kind_at``). What each byte
means stands in ``native_file``.
"""

import struct
from typing import Iterable, List, Optional, Tuple

from merino_edge.formats.architecture import (
    ACTIVATIONS,
    NORM_PLACES,
    NORMS,
    POSITIONS,
    Architecture,
    BlockSpec,
)
from merino_edge.formats.weights import weight_shapes

MAGIC, NEWEST = b"MERINO\0\2", 3

_HEADER = struct.Struct("<8sQIIIIQ24x")
_CONFIG = struct.Struct("<4IfIf5I3I4x")
_BLOCK = struct.Struct("<8I")
_TENSOR = struct.Struct("<4I2Q")


def head_bytes(
    a: Architecture,
    tensors: Iterable[Tuple[int, int, int, int, int]],
    data_offset: int,
    file_bytes: int,
) -> bytes:
    """The whole head.

    Args:
        a: The decoder.
        tensors: Of each its kind, rows, columns, offset and bytes, in the order of the file.
        data_offset: Where the first one lies.
        file_bytes: Length of the file.
    """
    rows = [_TENSOR.pack(kind, n_out, n_in, 0, *place) for kind, n_out, n_in, *place in tensors]
    header = _HEADER.pack(
        MAGIC[:7] + bytes([_version(a)]),
        file_bytes,
        _HEADER.size,
        len(a.blocks),
        len(rows),
        _table_offset(a),
        data_offset,
    )
    return b"".join([header, _config(a)] + _blocks(a) + rows)


def head_size(a: Architecture) -> int:
    """Bytes of the head."""
    return _table_offset(a) + len(weight_shapes(a)) * _TENSOR.size


def kind_at(head: bytes, index: int, a: Architecture) -> Optional[int]:
    """The kind of a tensor, by its place in the table; None where the head ends before it."""
    at = _table_offset(a) + index * _TENSOR.size
    if at + 4 > len(head):
        return None
    kind = struct.unpack("<I", head[at : at + 4])[0]  # type: int
    return kind


def part_at(at: int, a: Architecture) -> str:
    """Which part of the head a byte lies in, for people."""
    table = _table_offset(a)
    if at < _HEADER.size:
        return "header"
    if at < _HEADER.size + _CONFIG.size:
        return "config"
    if at < table:
        return "block {}".format((at - _HEADER.size - _CONFIG.size) // _BLOCK.size)
    return list(weight_shapes(a))[(at - table) // _TENSOR.size]


def _table_offset(a: Architecture) -> int:
    return _HEADER.size + _CONFIG.size + len(a.blocks) * _BLOCK.size


def _version(a: Architecture) -> int:
    """The oldest that can say what this decoder does."""
    rotated = [_n_rotated(a, block) for block in a.blocks]
    return NEWEST if any(_later_config(a)) or any(rotated) else MAGIC[7]


def _later_config(a: Architecture) -> Tuple[int, bool, bool]:
    """What version 3 adds to the config."""
    return NORM_PLACES.index(a.norm_place), not a.final_norm, a.parallel_residual


def _n_rotated(a: Architecture, block: BlockSpec) -> int:
    """Channels of a head that rope turns, where these are not all or none."""
    return a.rotary_dim(block) % block.head_dim


def _config(a: Architecture) -> bytes:
    return _CONFIG.pack(
        a.vocab_size,
        a.max_seq_len,
        a.embed_dim,
        NORMS.index(a.norm),
        a.norm_eps,
        POSITIONS.index(a.position),
        a.rope_base,
        ACTIVATIONS.index(a.activation),
        a.gated_ffn,
        a.attention_bias,
        a.ffn_bias,
        a.tie_embeddings,
        *_later_config(a),
    )


def _blocks(a: Architecture) -> List[bytes]:
    joints = a.joints()
    return [
        _BLOCK.pack(
            block.d_model,
            block.n_head,
            block.n_kv_head,
            block.head_dim,
            block.d_ff,
            block.depth,
            joints[b][0] if b in joints else 0,
            _n_rotated(a, block),
        )
        for b, block in enumerate(a.blocks)
    ]
