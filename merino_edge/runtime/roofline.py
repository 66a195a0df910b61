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
    n_bytes = decode_bytes_per_token(bundle, mean_position)
    found = Roofline(bandwidth.bytes_per_s, n_bytes, COUNTED, bandwidth.method)
    return report._replace(roofline=found, roofline_fraction=_fraction(report, found))


def decode_bytes_per_token(bundle: Bundle, position: int) -> int:
    """Bytes that one token reads, as COUNTED says."""
    a = bundle.manifest.architecture
    lookups = {"pos_embed.weight"} if a.tie_embeddings else {"pos_embed.weight", "embed.weight"}
    weights = sum(
        n_bytes // (n_rows if name in lookups else 1)
        for name, (n_bytes, n_rows) in _stored(bundle).items()
    )
    return weights + position * bundle.manifest.kv_cache.bytes_per_token


def weights_bytes(bundle: Bundle) -> int:
    """Stored tensors of a bundle, in bytes."""
    return sum(n_bytes for n_bytes, _ in _stored(bundle).values())


def _stored(bundle: Bundle) -> Dict[str, Tuple[int, int]]:
    """Name -> (bytes, rows) of every stored tensor, padding included."""
    native = optional_file(bundle, "native")
    if native is not None:
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
