"""What a decoder keeps on the GPU: the cache, the new rows, the small inputs and the results.

The one idea: every address is fixed when the bundle is opened. The graph writes new rows to a
staging place; a two-dimensional copy then appends them to the arena, one call for all layers of a
width, and never more bytes than the new rows. So nothing is allocated or moved in a step, and a
CUDA graph of it stays valid.

Few bytes that the CPU writes and the GPU reads once (tokens, positions, mask) lie in pinned memory
that both see: on a Jetson it is the same DRAM, and no copy is needed. The cache lies in device
memory: pinned memory is not cached by the GPU of a Nano.
"""

from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from merino_edge.formats.engine_spec import TensorSpec
from merino_edge.formats.manifest import KVCacheSpec
from merino_edge.runtime.cuda.api import Cuda
from merino_edge.runtime.kv_cache import KVCache, Region


class Span(NamedTuple):
    """Neighbouring regions of one size: ``n_regions`` of them, ``pitch`` bytes apart."""

    address: int
    pitch: int
    row_bytes: int
    n_regions: int


class DeviceCache:
    """The arena of a decoder and the staging place of its new rows.

    Args:
        cuda: The device, with its context current.
        spec: What the bundle asks for.
        chunk_len: Most new rows in a call.

    Attributes:
        total_bytes: Of both, allocated once.
        past, present: Regions in the arena and in the staging place, in the same order.

    Raises:
        DeviceMemoryError: There is not so much.
    """

    def __init__(self, cuda: Cuda, spec: KVCacheSpec, chunk_len: int, stream: int):
        self._cuda = cuda
        self._first_row = spec.first_row
        staging = spec._replace(context_len=chunk_len, buckets=[chunk_len])
        arena, rows = (KVCache(s, self._allocate_zeros(stream)) for s in (spec, staging))
        self.total_bytes = arena.total_bytes + rows.total_bytes
        self.past, self.present = arena.regions, rows.regions
        self._spans = list(zip(spans(self.past), spans(self.present)))

    def append(self, position: int, n_rows: int, stream: int) -> None:
        """Move the new rows to where the tokens from ``position`` on live."""
        for past, present in self._spans:
            self._cuda.copy_2d_async(
                past.address + (position + self._first_row) * past.row_bytes,
                past.pitch,
                present.address,
                present.pitch,
                n_rows * past.row_bytes,
                past.n_regions,
                stream,
            )

    def _allocate_zeros(self, stream: int) -> Any:
        """Zeros, because what the mask hides is multiplied by zero, and 0 * NaN is NaN."""

        def allocate(n_bytes: int) -> Tuple[None, int]:
            address = self._cuda.malloc(n_bytes)
            self._cuda.memset_async(address, 0, n_bytes, stream)
            return None, address

        return allocate


def spans(regions: List[Region]) -> List[Span]:
    """Regions in as few runs of equal size and distance as there are."""
    found: List[Span] = []
    for region in regions:
        last = found[-1] if found else None
        if last is not None and last.row_bytes == region.row_bytes:
            pitch = last.pitch or region.address - last.address
            found[-1] = Span(last.address, pitch, last.row_bytes, last.n_regions + 1)
        else:
            found.append(Span(region.address, 0, region.row_bytes, 1))
    return found


class PinnedInputs:
    """Makes the buffers of ``GraphInputs`` in memory that the GPU sees.

    Attributes:
        addresses: Name -> address for the GPU.
    """

    def __init__(self, cuda: Cuda):
        self._cuda = cuda
        self.addresses: Dict[str, int] = {}

    def allocate(self, name: str, dtype: str, shape: Tuple[int, ...]) -> np.ndarray:
        """Zeroed, of a shape."""
        n_bytes = int(np.dtype(dtype).itemsize * np.prod(shape))
        buffer = self._cuda.host_alloc(n_bytes)
        self.addresses[name] = buffer.device_address
        array = buffer.array[:n_bytes].view(dtype).reshape(shape)
        array[...] = 0
        return array


class Result:
    """An output that the CPU wants: device memory, and pinned memory to copy it to.

    Attributes:
        address: In device memory.
        rows: [max_rows, width], where it arrives. A Nano's CPU does not cache pinned memory: copy
            it once, then compute on the copy.
    """

    def __init__(self, cuda: Cuda, tensor: TensorSpec, max_rows: int):
        self._cuda = cuda
        self._row_bytes = int(tensor.shape[1]) * np.dtype(tensor.dtype).itemsize
        n_bytes = max_rows * self._row_bytes
        self.address = cuda.malloc(n_bytes)
        pinned = cuda.host_alloc(n_bytes).array[:n_bytes]
        self._pinned_address = pinned.ctypes.data
        self.rows = pinned.view(tensor.dtype).reshape(max_rows, -1)

    def fetch(self, n_rows: int, stream: int) -> None:
        """Start copying the first rows to the CPU's side."""
        n_bytes = n_rows * self._row_bytes
        self._cuda.copy_async(self._pinned_address, self.address, n_bytes, stream)
