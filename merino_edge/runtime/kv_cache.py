"""The cache of keys and values: one arena, allocated once, written in place.

Per layer application there are two buffers of (n_rows, n_kv_head, head_dim). The past of a decoder
is a prefix of each, and its new rows are the next ones: both are plain addresses, so nothing is
ever moved (which rows: ``KVCacheSpec``). Layers of one width lie at equal distances, so that a
single two-dimensional copy can append a row to all of them. This module does arithmetic only;
who allocates (numpy here, CUDA on a board) is the caller's choice.
"""

from typing import Any, Callable, NamedTuple, Tuple

import numpy as np

from merino_edge.formats.manifest import KVCacheSpec

ALIGN_BYTES = 256  # what TensorRT 8.5 and later ask of a tensor address; harmless elsewhere
_VALUE_BYTES = {"float32": 4, "float16": 2}


class Region(NamedTuple):
    """One buffer of the arena.

    Attributes:
        name: "past_key_values.{i}.key" without its prefix: "{i}.key" or "{i}.value".
        address: Of row 0.
        row_bytes: Of one token.
        row_shape: (n_kv_head, head_dim).
    """

    name: str
    address: int
    row_bytes: int
    row_shape: Tuple[int, ...]


def arena_bytes(spec: KVCacheSpec) -> int:
    """Bytes of the arena: the rows, each buffer rounded up to 256 bytes, and room to align."""
    buffers = sum(2 * _aligned(spec.n_rows * _row_bytes(spec, layer)) for layer in spec.layers)
    return buffers + ALIGN_BYTES


class KVCache:
    """Where each buffer lies.

    Args:
        spec: What the bundle asks for.
        allocate: Bytes -> (owner, address); the owner is kept alive as long as the cache.
    """

    def __init__(self, spec: KVCacheSpec, allocate: Callable[[int], Tuple[Any, int]]):
        self.spec = spec
        self.total_bytes = arena_bytes(spec)
        self._owner, base = allocate(self.total_bytes)
        self.regions = []
        address = _aligned(base)
        for index, layer in enumerate(spec.layers):
            row_bytes = _row_bytes(spec, layer)
            for kind in ("key", "value"):
                name = "{}.{}".format(index, kind)
                self.regions.append(Region(name, address, row_bytes, tuple(layer)))
                address += _aligned(spec.n_rows * row_bytes)


def allocate_host(n_bytes: int) -> Tuple[Any, int]:
    """Zeroed host memory; pages are taken from the system as rows are used."""
    owner = np.zeros(n_bytes, dtype=np.uint8)
    return owner, owner.ctypes.data


def _row_bytes(spec: KVCacheSpec, layer: Tuple[int, ...]) -> int:
    return layer[0] * layer[1] * _VALUE_BYTES[spec.dtype]


def _aligned(value: int) -> int:
    return -(-value // ALIGN_BYTES) * ALIGN_BYTES
