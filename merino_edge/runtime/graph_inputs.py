"""What a call of the graph reads besides the cache: tokens, positions, indices and the mask.

The one idea: these few bytes live in buffers that are made once and never move, and a call rewrites
what differs from the last one. Who owns the memory is the caller's choice: numpy for ONNX Runtime,
pinned memory that the GPU sees for TensorRT. The mask is kept up to date in place: a step
uncovers one row, a reset covers them again.

A graph for TensorRT takes embedding rows instead of ids. They are copied out of the mapped weights
file here, so that the engine need not hold a tied table twice; only rows in use are ever read.
"""

from typing import Callable, Dict, Tuple

import numpy as np

from merino_edge.formats.bundle import Bundle
from merino_edge.formats.graph_tensors import graph_tensors
from merino_edge.formats.manifest import HIDDEN_SCORE
from merino_edge.runtime.weights_map import map_tensor

# name, dtype, shape -> an array of that kind
Allocate = Callable[[str, str, Tuple[int, ...]], np.ndarray]


class GraphInputs:
    """The small inputs of a bundle's graph.

    Args:
        bundle: An opened bundle.
        n_tokens: Most tokens in a call.
        n_logits: Most rows of logits in a call.
        allocate: Makes the buffers, once.

    Attributes:
        buffers: Name of an input -> its whole buffer.
    """

    def __init__(self, bundle: Bundle, n_tokens: int, n_logits: int, allocate: Allocate):
        self._spec = bundle.manifest.kv_cache
        most = {"q_len": n_tokens, "n_logits": n_logits, "past_len": self._spec.n_rows}
        small = [t for t in graph_tensors(bundle.manifest) if t.is_input and not _is_cache(t.name)]
        self.buffers = {t.name: allocate(t.name, t.dtype, t.resolved(most)) for t in small}
        self._table = None
        if "inputs_embeds" in self.buffers:
            self._table = map_tensor(bundle.file("weights"), "embed.weight")
        self._mask = self.buffers["past_mask"]
        self._mask[:] = HIDDEN_SCORE
        self._n_visible = 0
        self._counting = np.arange(n_tokens, dtype=np.int32)

    def write(self, input_ids: np.ndarray, position: int, n_logits: int) -> Dict[str, np.ndarray]:
        """Prepare a call.

        Args:
            input_ids: The new tokens, int32 [q].
            position: Tokens in the cache.
            n_logits: How many of the last rows shall give logits.

        Returns:
            Name -> the part of its buffer that this call reads.
        """
        q_len = input_ids.size
        self._write_tokens(input_ids)
        np.add(self._counting[:q_len], position, out=self.buffers["position_ids"][:q_len])
        np.add(
            self._counting[:n_logits],
            q_len - n_logits,
            out=self.buffers["logits_indices"][:n_logits],
        )
        self._show(position)
        lengths = {"past_mask": self._spec.past_len(position), "logits_indices": n_logits}
        return {name: array[: lengths.get(name, q_len)] for name, array in self.buffers.items()}

    def _write_tokens(self, input_ids: np.ndarray) -> None:
        if self._table is None:
            self.buffers["input_ids"][: input_ids.size] = input_ids
            return
        rows = self.buffers["inputs_embeds"][: input_ids.size]
        np.take(self._table, input_ids, axis=0, out=rows, mode="clip")

    def _show(self, position: int) -> None:
        """Exactly the rows of the first ``position`` tokens; only what changes is written."""
        first = self._spec.first_row
        self._mask[first + self._n_visible : first + position] = 0.0
        self._mask[first + position : first + self._n_visible] = HIDDEN_SCORE
        self._n_visible = position


def allocate_numpy(name: str, dtype: str, shape: Tuple[int, ...]) -> np.ndarray:
    """Zeroed memory of this process."""
    return np.zeros(shape, dtype=dtype)


def _is_cache(name: str) -> bool:
    return name.startswith("past_key_values.")
