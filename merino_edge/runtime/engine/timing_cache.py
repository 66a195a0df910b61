"""The timing cache: what the builder measured, kept for the next build on the same board.

The one idea: timing tactics is most of a build, and a second build of a like graph need not repeat
it. The file begins with a checksum, because TensorRT parses the rest in native code; whatever is
wrong with a cache, the build goes on without it and says so. One file serves one version of
TensorRT on one kind of GPU. TensorRT-RTX has none: it measures nothing while it builds.
"""

import hashlib
import os
from typing import Any, List, Optional

from merino_edge.errors import FormatError
from merino_edge.formats import jsonio
from merino_edge.runtime.engine.door import TENSORRT_RTX, Library

_MAGIC = b"merino-edge.timing/1\n"
_DIGEST_BYTES = 32
_MAX_BYTES = 256 << 20


def timing_cache_name(tensorrt: str, compute_capability: str) -> str:
    """Name of the file for one TensorRT and one kind of GPU."""
    return "timing-{}-sm{}.cache".format(tensorrt, compute_capability.replace(".", ""))


def attach_timing_cache(library: Library, config: Any, path: Optional[str]) -> List[str]:
    """Give the builder the cache of earlier builds, or an empty one to fill.

    Args:
        library: Which TensorRT.
        config: The builder's configuration.
        path: The file; None for no cache beyond this build.

    Returns:
        Warnings, if an existing file was of no use.
    """
    if path is None or library.kind == TENSORRT_RTX:
        return []
    blob = _read(path)
    if blob and _attach(config, blob):
        return []
    _attach(config, b"")
    if not os.path.exists(path):
        return []
    return ["the timing cache {} is of no use here; this build measures anew.".format(path)]


def save_timing_cache(library: Library, config: Any, path: Optional[str]) -> List[str]:
    """Keep what was measured; returns a warning if that fails, since the plan is what counts."""
    if path is None or library.kind == TENSORRT_RTX:
        return []
    try:
        blob = bytes(memoryview(config.get_timing_cache().serialize()))
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        jsonio.write_bytes_atomic(path, _MAGIC + hashlib.sha256(blob).digest() + blob)
    except OSError as error:
        return ["the timing cache {} could not be kept: {}.".format(path, error)]
    return []


def _attach(config: Any, blob: bytes) -> bool:
    cache = config.create_timing_cache(blob)
    # False: a cache of another GPU is refused, not stretched to fit
    return cache is not None and bool(config.set_timing_cache(cache, False))


def _read(path: str) -> Optional[bytes]:
    """The blob behind an intact header; None for anything else."""
    try:
        data = jsonio.read_bytes(path, _MAX_BYTES)
    except (OSError, FormatError):
        return None
    start = len(_MAGIC) + _DIGEST_BYTES
    digest, blob = data[len(_MAGIC) : start], data[start:]
    intact = data.startswith(_MAGIC) and hashlib.sha256(blob).digest() == digest
    return blob if intact else None
