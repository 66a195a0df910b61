"""ONNX Runtime on the CPU: the one door to ``onnxruntime``, 1.10 (Python 3.6) and later.

The one idea: inputs and outputs are bound by address. The past is a prefix of the cache, and the
new rows are written by the graph itself into the next rows of the same buffer; a step allocates
nothing of ours and copies no cache. Where the past has a bucket's length, those rows are part of
it, but the mask gives them no weight.

Dense weights are used where they lie: version 1.32 maps them from the bundle, 1.10 reads them once.
Repacking them is a matter of choice. Measured on 2 cores of an AMD EPYC (fp32, 2026-11-24): with 16
layers of width 640 in 4 shared blocks, 1.32 decodes in 8.1 ms repacked and 9.9 ms mapped, at 442
and 306 MB peak; 1.10 repacks a shared matrix anew for each use: 654 instead of 360 MB, and slower.

Whole numbers are always repacked: MatMulNBits unpacks a matrix at every call if it may not, which
took 64 to 140 times as long. Repacked (same machine, past 64, 2 threads, 2026-11-24), a MeRino of
63 M parameters decodes in 2.3 ms with int4, 2.7 with int8 and 8.8 with mapped fp32; SmolLM2-135M in
6.2, 6.5 and 14.8 ms. Its prompts are no faster for it: 1.2, 1.5 and 1.4 tokens a ms. In 1.32 all
uses of a shared block have one repacked copy between them; in 1.23 each has its own. Repacked
weights in the bundle, which ONNX Runtime could write and map, would belong to one version and one
kind of processor; and opening is quick as it is (0.15 s for that MeRino).
"""

import os
from typing import Any, List, Optional, Sequence

import numpy as np

from merino_edge.errors import EngineError, MissingDependencyError
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.engine_spec import EngineSpec
from merino_edge.formats.whole_weights import WHOLE
from merino_edge.runtime.backend import Backend
from merino_edge.runtime.graph_inputs import GraphInputs, allocate_numpy
from merino_edge.runtime.kv_cache import KVCache, allocate_host

# GatherBlockQuantized of 8 bits came with it; 1.22 refuses the graph, and 1.10 has no MatMulNBits.
WHOLE_SINCE = (1, 23)


class OrtBackend(Backend):
    """Runs ``decoder.onnx`` of a bundle.

    Args:
        bundle: An opened bundle.
        threads: CPU threads; None for ONNX Runtime's choice (one a core). More than the machine
            has count as all: it would start each of them, thousands if asked, and never get on.
        prepack: Let ONNX Runtime 1.32 repack dense weights: faster, for more memory.

    Raises:
        MissingDependencyError: onnxruntime is not installed, or too old for whole numbers.
        EngineError: ONNX Runtime refuses the graph; its own words are kept.
    """

    name = "ort"

    def __init__(self, bundle: Bundle, threads: Optional[int] = None, prepack: bool = False):
        ort = _onnxruntime()
        if bundle.manifest.precision in WHOLE:
            _require_whole_numbers(ort.__version__, bundle.manifest.precision)
            prepack = True
        threads = min(threads, os.cpu_count() or 1) if threads else None
        spec, architecture = bundle.manifest.kv_cache, bundle.manifest.architecture
        self._session = _open_session(ort, bundle.file("onnx"), threads, prepack)
        self._cache = KVCache(spec, allocate_host)
        description = "onnxruntime {} on the CPU, {} threads, {}".format(
            ort.__version__, threads or "all", "repacked weights" if prepack else "mapped weights"
        )
        super().__init__(
            spec.context_len, architecture.vocab_size, self._cache.total_bytes, description
        )
        self._inputs = GraphInputs(bundle, spec.context_len, spec.context_len, allocate_numpy)
        self._dtype = np.dtype(spec.dtype).type
        self._last_logits = np.empty((1, architecture.vocab_size), dtype=np.float32)
        self._binding = self._session.io_binding()
        self._others = _best_outputs(bundle.manifest.engine)

    def watch(self, names: Sequence[str]) -> None:
        """Ask for further outputs of the graph; to be called before the first token.

        Args:
            names: Outputs that were added to a bundle's graph.
        """
        self._others = list(names) + self._others

    def watched(self, n_names: int) -> List[np.ndarray]:
        """What the first so many watched outputs were in the last call."""
        return [value.numpy() for value in self._binding.get_outputs()[:n_names]]

    def _forward(self, input_ids: np.ndarray, all_logits: bool) -> np.ndarray:
        logits = self._last_logits
        if all_logits and input_ids.size > 1:
            logits = np.empty((input_ids.size, self.vocab_size), dtype=np.float32)
        self._bind_others()
        arrays = self._inputs.write(input_ids, self.position, len(logits))
        for name, array in arrays.items():
            self._bind_input(name, array.dtype.type, list(array.shape), array.ctypes.data)
        self._bind_cache(len(arrays["past_mask"]), input_ids.size)
        self._bind_output("logits", np.float32, list(logits.shape), logits.ctypes.data)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise EngineError("ONNX Runtime failed while running: {}".format(error))
        return logits

    def _bind_input(self, name: str, dtype: Any, shape: List[int], address: int) -> None:
        self._binding.bind_input(name, "cpu", 0, dtype, shape, address)

    def _bind_output(self, name: str, dtype: Any, shape: List[int], address: int) -> None:
        self._binding.bind_output(name, "cpu", 0, dtype, shape, address)

    def _bind_others(self) -> None:
        """Bound anew in each call, or ONNX Runtime would insist on the shapes of the last."""
        for name in self._others:
            self._binding.bind_output(name, "cpu")

    def _bind_cache(self, past_len: int, n_new: int) -> None:
        row = self.position + self._cache.spec.first_row
        for region in self._cache.regions:
            shape = list(region.row_shape)
            past, new = "past_key_values." + region.name, "present." + region.name
            self._bind_input(past, self._dtype, [past_len] + shape, region.address)
            address = region.address + row * region.row_bytes
            self._bind_output(new, self._dtype, [n_new] + shape, address)

    def _release(self) -> None:
        del self._binding, self._session, self._cache, self._inputs


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError(
            "onnxruntime",
            "the backend 'ort'",
            "pip install 'merino-edge[device]', or use --backend reference (slow).",
        )
    if hasattr(onnxruntime, "disable_telemetry_events"):
        # 1.32 keeps a device's number and events below the user's folder; nobody asked for any.
        onnxruntime.disable_telemetry_events()
    return onnxruntime


def _require_whole_numbers(version: str, precision: str) -> None:
    found = tuple(int(part) for part in version.split(".")[:2])
    if found >= WHOLE_SINCE:
        return
    raise MissingDependencyError(
        "onnxruntime {}.{} or later".format(*WHOLE_SINCE),
        "the backend 'ort' with {} weights ({} is here)".format(precision, version),
        "pip install -U onnxruntime; or use --backend native; or, where there is no newer one "
        "(Python 3.6), build with --precision fp32.",
    )


def _best_outputs(engine: Optional[EngineSpec]) -> List[str]:
    """The largest logits are for engines; here ONNX Runtime keeps them to itself."""
    return ["best_logits", "best_ids"] if engine and engine.n_best else []


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
