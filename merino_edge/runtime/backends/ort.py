"""ONNX Runtime on the CPU: the one door to ``onnxruntime``, 1.10 (Python 3.6) and later.

The one idea: inputs and outputs are bound by address. The past is a prefix of the cache, the new
rows are written by the graph itself into the next rows of the same buffer, and positions are
read from one prepared vector; a step allocates nothing of ours and copies no cache.

Weights are used where they lie: version 1.32 maps them from the bundle, 1.10 reads them once.
Repacking them is a matter of choice. Measured on 2 cores of an AMD EPYC (fp32, 2026-11-24): with 16
layers of width 640 in 4 shared blocks, 1.32 decodes in 8.1 ms repacked and 9.9 ms mapped, at 442
and 306 MB peak; 1.10 repacks a shared matrix anew for each use: 654 instead of 360 MB, and slower.
"""

from typing import Any, List, Optional

import numpy as np

from merino_edge.errors import EngineError, MissingDependencyError
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.manifest import HIDDEN_SCORE
from merino_edge.runtime.backend import Backend
from merino_edge.runtime.kv_cache import KVCache, allocate_host


class OrtBackend(Backend):
    """Runs ``decoder.onnx`` of a bundle.

    Args:
        bundle: An opened bundle.
        threads: CPU threads; None for ONNX Runtime's choice (one a core).
        prepack: Let ONNX Runtime 1.32 repack the weights: faster, for more memory.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        EngineError: ONNX Runtime refuses the graph; its own words are kept.
    """

    name = "ort"

    def __init__(self, bundle: Bundle, threads: Optional[int] = None, prepack: bool = False):
        ort = _onnxruntime()
        spec, architecture = bundle.manifest.kv_cache, bundle.manifest.architecture
        self._session = _open_session(ort, bundle.file("onnx"), threads, prepack)
        self._cache = KVCache(spec, allocate_host)
        description = "onnxruntime {} on the CPU, {} threads, {}".format(
            ort.__version__, threads or "all", "repacked weights" if prepack else "mapped weights"
        )
        super().__init__(
            spec.context_len, architecture.vocab_size, self._cache.total_bytes, description
        )
        self._positions = np.arange(spec.context_len, dtype=np.int32)
        self._past_mask = np.zeros(spec.n_rows, dtype=np.float32)
        self._past_mask[0] = HIDDEN_SCORE
        self._last_logits = np.empty((1, architecture.vocab_size), dtype=np.float32)
        self._binding = self._session.io_binding()

    def _forward(self, input_ids: np.ndarray, all_logits: bool) -> np.ndarray:
        n_new, past_len = input_ids.size, self.position + 1
        logits = self._last_logits
        if all_logits and n_new > 1:
            logits = np.empty((n_new, self.vocab_size), dtype=np.float32)
        n_logits = len(logits)
        positions = self._positions.ctypes.data
        self._bind("input_ids", np.int32, [n_new], input_ids.ctypes.data)
        self._bind("position_ids", np.int32, [n_new], positions + 4 * self.position)
        # The indices of the last n rows are the last n of 0..q-1: the same vector, further on.
        self._bind("logits_indices", np.int32, [n_logits], positions + 4 * (n_new - n_logits))
        self._bind("past_mask", np.float32, [past_len], self._past_mask.ctypes.data)
        self._bind_cache(past_len, n_new)
        self._binding.bind_output(
            "logits", "cpu", 0, np.float32, [n_logits, self.vocab_size], logits.ctypes.data
        )
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise EngineError("ONNX Runtime failed while running: {}".format(error))
        return logits

    def _bind(self, name: str, dtype: Any, shape: List[int], address: int) -> None:
        self._binding.bind_input(name, "cpu", 0, dtype, shape, address)

    def _bind_cache(self, past_len: int, n_new: int) -> None:
        for region in self._cache.regions:
            shape = list(region.row_shape)
            self._bind(
                "past_key_values." + region.name, np.float32, [past_len] + shape, region.address
            )
            self._binding.bind_output(
                "present." + region.name,
                "cpu",
                0,
                np.float32,
                [n_new] + shape,
                region.address + past_len * region.row_bytes,
            )

    def _release(self) -> None:
        del self._binding, self._session, self._cache


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError(
            "onnxruntime",
            "the backend 'ort'",
            "pip install 'merino-edge[device]', or use --backend reference (slow).",
        )
    return onnxruntime


def _open_session(ort: Any, path: str, threads: Optional[int], prepack: bool) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    options.add_session_config_entry("session.disable_prepacking", "0" if prepack else "1")
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EngineError(
            "ONNX Runtime {} refuses the graph: {}".format(ort.__version__, error),
            hint="merino-edge verify BUNDLE says whether the bundle is intact.",
        )
