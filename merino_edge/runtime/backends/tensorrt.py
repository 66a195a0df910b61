"""TensorRT behind the seam of a backend: chunks, positions, and the device's context.

The one idea: an engine takes at most a chunk of tokens and gives at most a few rows of logits, so
a long prompt becomes several calls of the ``DeviceDecoder``. Around them, the device's context is
made current in whatever thread is calling, and what was current before is put back.
"""

from typing import Callable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from merino_edge.errors import SessionError
from merino_edge.formats.bundle import Bundle
from merino_edge.runtime.backend import Backend
from merino_edge.runtime.cuda.api import Cuda
from merino_edge.runtime.engine.device_decoder import DeviceDecoder
from merino_edge.runtime.engine.door import TENSORRT_RTX, Library
from merino_edge.runtime.engine.workshop import engine_spec


class TensorRtBackend(Backend):
    """Runs the engine of a bundle.

    Args:
        bundle: An opened bundle, built for an engine.
        library: TensorRT, opened.
        cuda: The device; closed together with the backend.
        plan_path: The engine that was built from this bundle on this device.
        on_note: Told what is worth knowing.

    Raises:
        UnsupportedError: The bundle is not meant for an engine.
        EngineError: TensorRT refuses the plan, or it is not of this bundle.
        DeviceMemoryError: The cache does not fit.
    """

    name = "tensorrt"

    def __init__(
        self,
        bundle: Bundle,
        library: Library,
        cuda: Cuda,
        plan_path: str,
        on_note: Callable[[str], None],
    ):
        self.name = library.kind
        self._cuda = cuda
        self._decoder: Optional[DeviceDecoder] = None
        try:
            self._spec = engine_spec(bundle)
            with cuda.activate():
                self._decoder = DeviceDecoder(bundle, self._spec, library, cuda, plan_path, on_note)
        except BaseException:
            self._release()
            raise
        manifest = bundle.manifest
        super().__init__(
            manifest.kv_cache.context_len,
            manifest.architecture.vocab_size,
            self._decoder.cache_bytes,
            _description(library, cuda),
        )
        self.n_best = self._spec.n_best
        self.sums_in_half = manifest.precision == "fp16"
        self._one_row = np.empty((1, self.vocab_size), dtype=np.float32)

    def _forward(self, input_ids: np.ndarray, all_logits: bool) -> np.ndarray:
        with self._cuda.activate():
            if all_logits:
                return self._all_logits(input_ids)
            np.copyto(self._one_row, self._last(input_ids, "logits")[0])
            return self._one_row

    def _forward_best(self, input_ids: np.ndarray, k: int) -> Tuple[np.ndarray, np.ndarray]:
        with self._cuda.activate():
            ids, scores = self._last(input_ids, "best_ids", "best_logits")
            return ids[0, :k].copy(), scores[0, :k].copy()

    def _call(
        self, input_ids: np.ndarray, position: int, n_logits: int, wanted: Sequence[str]
    ) -> List[np.ndarray]:
        if self._decoder is None:
            raise SessionError("the engine is closed.")
        return self._decoder.call(input_ids, position, n_logits, wanted)

    def _last(self, input_ids: np.ndarray, *wanted: str) -> List[np.ndarray]:
        """Results of the last token, still in pinned memory."""
        for position, part in self._parts(input_ids, self._spec.chunk_len):
            is_last = position + part.size == self.position + input_ids.size
            rows = self._call(part, position, 1, wanted if is_last else ())
        return rows

    def _all_logits(self, input_ids: np.ndarray) -> np.ndarray:
        logits = np.empty((input_ids.size, self.vocab_size), dtype=np.float32)
        for position, part in self._parts(input_ids, self._spec.max_logits):
            first = position - self.position
            rows = self._call(part, position, part.size, ("logits",))[0]
            logits[first : first + part.size] = rows
        return logits

    def _parts(self, input_ids: np.ndarray, size: int) -> Iterator[Tuple[int, np.ndarray]]:
        for start in range(0, input_ids.size, size):
            yield self.position + start, input_ids[start : start + size]

    def _release(self) -> None:
        try:
            if self._decoder is not None:
                with self._cuda.activate():
                    self._decoder.close()
        finally:
            self._decoder = None
            self._cuda.close()


def _description(library: Library, cuda: Cuda) -> str:
    product = "TensorRT-RTX" if library.kind == TENSORRT_RTX else "TensorRT"
    return "{} {} on {} through {}".format(
        product, library.version_text, cuda.device_name, cuda.name
    )
