"""A decoder on the GPU: an engine, its two contexts, and everything they read and write.

The one idea: all that a step touches has its place before the first step. Context "decode" takes
one token, context "prefill" up to a chunk; they share the weights, the cache and the staging
place. A call is: write a few bytes of input, run (decode steps as one captured graph), append
the new rows to the cache, fetch what is wanted, wait.

The device's context must be current; chunking and positions are the backend's business.
"""

from typing import Callable, Dict, List, Sequence

import numpy as np

from merino_edge.formats.bundle import Bundle
from merino_edge.formats.engine_spec import EngineSpec, TensorSpec
from merino_edge.formats.graph_tensors import graph_tensors
from merino_edge.runtime.cuda.api import Cuda
from merino_edge.runtime.engine.device_memory import DeviceCache, PinnedInputs, Result
from merino_edge.runtime.engine.door import Library
from merino_edge.runtime.engine.execution import Engine, Execution
from merino_edge.runtime.engine.replay import Replay
from merino_edge.runtime.graph_inputs import GraphInputs

_DECODE, _PREFILL = 0, 1  # the engine's profiles, in the order of formats.engine_spec


class DeviceDecoder:
    """Runs calls of a bundle's graph on the GPU.

    Args:
        bundle: An opened bundle.
        spec: Its engine's.
        library: TensorRT, opened.
        cuda: The device, with its context current.
        plan_path: The engine.
        on_note: Told what is worth knowing, such as that CUDA graphs do not work here.

    Attributes:
        replay: Decode steps, and how many of them were launched as a graph.

    Raises:
        EngineError: TensorRT refuses the plan, or it is not of this bundle.
        DeviceMemoryError: The cache does not fit.
    """

    def __init__(
        self,
        bundle: Bundle,
        spec: EngineSpec,
        library: Library,
        cuda: Cuda,
        plan_path: str,
        on_note: Callable[[str], None],
    ):
        self._cuda, self._stream = cuda, cuda.create_stream()
        tensors = graph_tensors(bundle.manifest)
        self._engine = Engine(library, plan_path)
        self._engine.check(tensors)
        self._cache = DeviceCache(cuda, bundle.manifest.kv_cache, spec.chunk_len, self._stream)
        pinned = PinnedInputs(cuda)
        self._inputs = GraphInputs(bundle, spec.chunk_len, spec.max_logits, pinned.allocate)
        outputs = [t for t in tensors if not t.is_input and not t.name.startswith("present.")]
        self._results = {t.name: Result(cuda, t, spec.max_logits) for t in outputs}
        self._variable = [t for t in tensors if t.is_input]
        self._executions = self._bound_executions(tensors, pinned.addresses)
        self._shapes: List[Dict[str, int]] = [{}, {}]
        self.replay = Replay(cuda, self._stream, self._run_decode, on_note)
        cuda.synchronize(self._stream)

    @property
    def cache_bytes(self) -> int:
        """Of the arena and the staging place."""
        return self._cache.total_bytes

    def call(
        self, input_ids: np.ndarray, position: int, n_logits: int, wanted: Sequence[str]
    ) -> List[np.ndarray]:
        """Append tokens and fetch results.

        Args:
            input_ids: int32 [q], at most a chunk.
            position: Tokens in the cache.
            n_logits: How many of the last rows shall give logits.
            wanted: Names of the outputs to fetch.

        Returns:
            For each of ``wanted`` [n_logits, width], in pinned memory: valid until the next call.
        """
        arrays = self._inputs.write(input_ids, position, n_logits)
        dims = {
            "q_len": input_ids.size,
            "past_len": len(arrays["past_mask"]),
            "n_logits": n_logits,
        }
        profile = _DECODE if input_ids.size == 1 and n_logits == 1 else _PREFILL
        self._set_shapes(profile, dims)
        if profile == _DECODE:
            self.replay.run(dims["past_len"])
        else:
            self._executions[profile].run(self._stream)
        self._cache.append(position, input_ids.size, self._stream)
        for name in wanted:
            self._results[name].fetch(n_logits, self._stream)
        self._cuda.synchronize(self._stream)
        return [self._results[name].rows[:n_logits] for name in wanted]

    def close(self) -> None:
        """Let go of graph, contexts and engine; memory is freed with the device."""
        self.replay.forget()
        for execution in self._executions:
            execution.close()
        self._engine.close()

    def _run_decode(self) -> None:
        self._executions[_DECODE].run(self._stream)

    def _set_shapes(self, profile: int, dims: Dict[str, int]) -> None:
        """Tell the context what changed; for most decode steps that is nothing."""
        before = self._shapes[profile]
        if before == dims:
            return
        self._shapes[profile] = {}  # unknown, should one of the calls fail
        for tensor in self._variable:
            changed = [d for d in tensor.shape if isinstance(d, str) and before.get(d) != dims[d]]
            if changed:
                self._executions[profile].set_shape(tensor.name, tensor.resolved(dims))
        self._shapes[profile] = dims

    def _bound_executions(
        self, tensors: Sequence[TensorSpec], inputs: Dict[str, int]
    ) -> List[Execution]:
        addresses = dict(inputs)
        addresses.update((name, result.address) for name, result in self._results.items())
        for prefix, regions in (
            ("past_key_values", self._cache.past),
            ("present", self._cache.present),
        ):
            addresses.update(("{}.{}".format(prefix, r.name), r.address) for r in regions)
        executions = [self._engine.execution(p, self._stream) for p in (_DECODE, _PREFILL)]
        for execution in executions:
            for tensor in tensors:
                execution.bind(tensor.name, addresses[tensor.name])
        return executions
