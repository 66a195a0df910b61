"""How fast could decoding be, if it were nothing but reading memory?

One generated token reads every weight once and the cache up to its position; divided by the
bandwidth that this machine shows in the same run, that is the time no engine of this precision
can beat from memory. The one idea: bandwidth is measured with the access that decoding makes, a
matrix-vector product; it is fast with every numpy, and uses the threads that BLAS uses.
"""

import time
from typing import Dict, NamedTuple, Optional, Tuple

import numpy as np

from merino_edge.formats.bench_report import BenchReport, Roofline
from merino_edge.formats.bundle import Bundle, optional_file
from merino_edge.formats.native_file import read_tensors
from merino_edge.formats.weights import read_index

BUFFER_BYTES = 256 << 20  # some times the largest cache of boards and desktops
CACHES_PER_BUFFER = 4  # for processors with larger ones
N_COLUMNS = 4096
N_TRIES = 7
COUNTED = (
    "every stored matrix once (one row of a table that is only looked up), and keys and values "
    "up to the mean position; a block applied several times counts once"
)


class Bandwidth(NamedTuple):
    """How fast this machine reads memory, and how that was measured."""

    bytes_per_s: float
    method: str


class TokenBytes(NamedTuple):
    """What one token reads, in bytes.

    Attributes:
        once: As COUNTED says: what must come from memory.
        executed: A block counts as often as it is applied; between its applications it may stay in
            the CPU's cache.
    """

    once: int
    executed: int


def measure_bandwidth(last_cache_bytes: Optional[int] = None) -> Bandwidth:
    """Read a matrix much larger than the CPU's cache, a few times; the best counts."""
    n_bytes = max(BUFFER_BYTES, CACHES_PER_BUFFER * (last_cache_bytes or 0))
    matrix = np.ones((n_bytes // (4 * N_COLUMNS), N_COLUMNS), dtype=np.float32)
    vector = np.ones(N_COLUMNS, dtype=np.float32)
    best_s = float("inf")
    for _ in range(N_TRIES):
        start = time.perf_counter()
        matrix.dot(vector)
        best_s = min(best_s, time.perf_counter() - start)
    method = "numpy {}, float32 matrix-vector product over {} MB, best of {}".format(
        np.__version__, n_bytes >> 20, N_TRIES
    )
    return Bandwidth(matrix.nbytes / best_s, method)


def with_roofline(report: BenchReport, bundle: Bundle, bandwidth: Bandwidth) -> BenchReport:
    """The report of a decode case with its roofline; other reports as they are."""
    if not report.n_gen:
        return report
    mean_position = report.n_depth + (report.n_gen + 1) // 2
    read = decode_bytes_per_token(bundle, report.backend, mean_position)
    found = Roofline(
        bandwidth.bytes_per_s, read.once, COUNTED, bandwidth.method, executed_bytes=read.executed
    )
    return report._replace(roofline=found, roofline_fraction=_fraction(report, found))


def decode_bytes_per_token(bundle: Bundle, backend: str, position: int) -> TokenBytes:
    """Bytes that one token reads.

    Args:
        bundle: What was run.
        backend: By which backend: the native decoder has a file and a cache of its own.
        position: Tokens in the cache.
    """
    manifest = bundle.manifest
    lookups = ("pos_embed.",) if manifest.architecture.tie_embeddings else ("pos_embed.", "embed.")
    once = executed = 0
    for name, (n_bytes, n_rows) in _stored(bundle, backend).items():
        read = n_bytes // (n_rows if name.startswith(lookups) else 1)
        once += read
        executed += read * _applications(bundle, name)
    cache = manifest.native_cache if backend == "native" else manifest.kv_cache
    past = position * cache.bytes_per_token
    return TokenBytes(once + past, executed + past)


def weights_bytes(bundle: Bundle, backend: str) -> int:
    """Stored tensors that a backend reads, in bytes."""
    return sum(n_bytes for n_bytes, _ in _stored(bundle, backend).values())


def _applications(bundle: Bundle, name: str) -> int:
    """How often a token passes through a tensor; each application of a block has its own norms."""
    parts = name.split(".")
    if parts[0] != "blocks" or parts[2] not in ("attn", "ffn"):
        return 1
    return bundle.manifest.architecture.blocks[int(parts[1])].depth


def _stored(bundle: Bundle, backend: str) -> Dict[str, Tuple[int, int]]:
    """Name -> (bytes, rows) of every tensor that a backend reads, padding included."""
    native = optional_file(bundle, "native")
    if native is not None and (backend == "native" or optional_file(bundle, "weights") is None):
        places = read_tensors(native, bundle.manifest.architecture)
        return {name: (place.n_bytes, place.n_out) for name, place in places.items()}
    index = read_index(bundle.file("weights"))
    return {name: (entry.n_bytes, entry.shape[0]) for name, entry in index.items()}


def _fraction(report: BenchReport, found: Roofline) -> Optional[float]:
    cache_bytes = report.device.last_cache_bytes
    if cache_bytes is not None and found.bytes_per_token <= cache_bytes:
        return None
    measured_s = 1e-9 * report.avg_ns / report.n_gen
    return found.bytes_per_token / found.read_bytes_per_s / measured_s
