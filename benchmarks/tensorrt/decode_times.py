"""How long ONNX Runtime takes for one token, for each layout of the cache, at fixed positions.

The one idea: the same token at the same position over the same keys and values, again and again;
only their layout differs. Rounds are interleaved and their order turns, so that a machine that
grows slower meanwhile is slower for all. A step ends as on a board: the new rows, which the graph
gives in buffers of their own, are copied into the cache. They land behind the tokens that count, so
the next step sees the same as the last.
"""

import time
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from engines import tensors_of
from variants import Layout

from merino_edge.errors import ParityError
from merino_edge.formats.engine_spec import TensorSpec
from merino_edge.formats.manifest import HIDDEN_SCORE

TOLERANCE = 1e-3  # of the largest logit: sums are in another order


class LayoutDecoder:
    """A float32 graph with one layout, its cache full of the same numbers for every layout.

    Args:
        path: The graph.
        layout: How its cache lies.
        buckets: Lengths of a past; the last is the context.
    """

    def __init__(self, path: str, layout: Layout, buckets: list[int]):
        self.layout = layout
        self._buckets = buckets
        self._session = _open(path)
        self._tensors = tensors_of(path)
        self._caches = self._fill()
        self._arrays: dict[int, dict[str, np.ndarray]] = {}
        self._bindings: dict[int, ort.IOBinding] = {}

    def prepare(self, position: int) -> None:
        """Bind everything for a step at this position, once."""
        past_len = self.layout.past_len(position, self._buckets)
        arrays = {t.name: self._array(t, position, past_len) for t in self._tensors}
        binding = self._session.io_binding()
        for tensor in self._tensors:
            array = arrays[tensor.name]
            bind = binding.bind_input if tensor.is_input else binding.bind_output
            bind(tensor.name, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data)
        self._arrays[position], self._bindings[position] = arrays, binding

    def step(self, position: int) -> np.ndarray:
        """One token; its logits, until the next step."""
        self._session.run_with_iobinding(self._bindings[position])
        arrays = self._arrays[position]
        for name, rows in self._caches.items():
            rows[position] = arrays["present." + name][0]
        return arrays["logits"]

    def _fill(self) -> dict[str, np.ndarray]:
        """Name -> keys or values of every position, as a sequence-major view of the buffer."""
        rng, caches = np.random.default_rng(0), {}
        for tensor in (t for t in self._tensors if t.name.startswith("present.")):
            name = tensor.name.removeprefix("present.")
            rows = rng.standard_normal((self._buckets[-1], *tensor.shape[1:]), dtype=np.float32)
            axes = self._axes(name)
            buffer = np.ascontiguousarray(rows.transpose(axes))
            caches[name] = buffer.transpose(np.argsort(axes))
        return caches

    def _array(self, tensor: TensorSpec, position: int, past_len: int) -> np.ndarray:
        if tensor.name.startswith("past_key_values."):
            name = tensor.name.removeprefix("past_key_values.")
            return self._caches[name][:past_len].transpose(self._axes(name))
        shape = tensor.resolved({"q_len": 1, "n_logits": 1, "past_len": past_len})
        array = np.zeros(shape, tensor.dtype)
        if tensor.name == "inputs_embeds":
            array[:] = np.random.default_rng(1).standard_normal(shape)
        elif tensor.name == "position_ids":
            array[:] = position
        elif tensor.name == "past_mask":
            array[position:] = HIDDEN_SCORE
        return array

    def _axes(self, name: str) -> tuple[int, ...]:
        return self.layout.key if name.endswith(".key") else self.layout.value


def check_agreement(decoders: Sequence[LayoutDecoder], position: int) -> float:
    """The largest difference of logits from the first's, relative to the largest logit.

    Raises:
        ParityError: A variant computes something else, so its time means nothing.
    """
    logits = [decoder.step(position).copy() for decoder in decoders]
    scale = np.abs(logits[0]).max()
    differences = [float(np.abs(found - logits[0]).max() / scale) for found in logits]
    worst = max(differences)
    if not worst <= TOLERANCE:
        name = decoders[differences.index(worst)].layout.name
        raise ParityError(f"'{name}' differs by {worst:.1e} of the largest logit from the first.")
    return worst


def measure(
    decoders: Sequence[LayoutDecoder], position: int, n_rounds: int, n_steps: int
) -> list[list[float]]:
    """Milliseconds of a step: for each decoder one mean of ``n_steps`` a round."""
    samples: list[list[float]] = [[] for _ in decoders]
    for round_index in range(n_rounds):
        for i in range(len(decoders)):
            which = (i + round_index) % len(decoders)
            samples[which].append(_mean_ms(decoders[which], position, n_steps))
    return samples


def _mean_ms(decoder: LayoutDecoder, position: int, n_steps: int) -> float:
    decoder.step(position)  # the step before ran another graph, and left its weights in the cache
    start = time.perf_counter()
    for _ in range(n_steps):
        decoder.step(position)
    return 1e3 * (time.perf_counter() - start) / n_steps


def _open(path: str) -> ort.InferenceSession:
    """As the runtime opens it, weights used where they lie; one core, for a quieter time."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_prepacking", "1")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
