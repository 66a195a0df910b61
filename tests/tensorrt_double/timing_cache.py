"""ITimingCache: what the builder measured before, for this version and this GPU only.

A blob of another version or a damaged one gives an *empty* cache and a warning (so says NVIDIA's
own module, TensorRT-RTX 1.7, when it is tried); one of another GPU is refused by
``set_timing_cache`` unless told to ignore that.
"""

import json

from .plan import open_sealed, seal, to_host_memory
from .surface import want

MAGIC = b"TIMECACH"


class ITimingCache:
    """Keys of what was timed."""

    def serialize(self):
        data = json.dumps(sorted(self._entries)).encode("utf-8")
        version, capability = self._trt.full_version, self._capability
        return to_host_memory(self._trt, seal(MAGIC, version, capability, data))

    def combine(self, input_cache, ignore_mismatch):
        want(input_cache, self._trt.classes["ITimingCache"], "combine()")
        if input_cache._capability != self._capability and not want(
            ignore_mismatch, bool, "combine"
        ):
            return False
        self._entries |= input_cache._entries
        return True

    def reset(self):
        self._entries = set()
        return True


def create_timing_cache(library, logger, blob):
    """A cache from bytes; no bytes, or bytes of no use, make an empty one."""
    data = bytes(memoryview(blob))
    entries, capability = set(), library.compute_capability
    if data:
        try:
            sealed = open_sealed(MAGIC, data)
            if sealed.version != library.full_version:
                raise ValueError("another version")
            entries, capability = set(json.loads(sealed.payload)), sealed.compute_capability
        except ValueError:
            text = "Failed to deserialize timing cache. Returning an empty timing cache."
            library.log(logger, "WARNING", text)
    return library.classes["ITimingCache"]._new(_entries=entries, _capability=capability)
