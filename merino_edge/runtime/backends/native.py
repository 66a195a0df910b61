"""The native decoder behind the seam of a backend: our C core on the CPU, over ctypes.

The one idea: C reads the ids and writes the logits at the addresses of numpy's own buffers, taken
once, so that a step makes no array and copies nothing; and where a few of the largest logits decide
the next token, the core looks for them and the vocabulary stays where it is.

Python notices Ctrl-C when a call of the core returns, so a caller who wants to be interrupted gives
a long prompt in chunks, as the session does. The core counts the tokens that it has read as well;
where an interruption came between its count and ours, ours holds, and the core goes back to it.
"""

from typing import Optional, Tuple

import numpy as np

from merino_edge.errors import UnsupportedError
from merino_edge.formats.bundle import Bundle, optional_file
from merino_edge.runtime.backend import Backend
from merino_edge.runtime.native_library import NativeLibrary

# ME_MAX_TOP_K: an insertion into a longer list would take as long as copying and sorting all.
MOST_BEST = 256


class NativeBackend(Backend):
    """Runs ``model.merino`` of a bundle.

    Args:
        bundle: An opened bundle.
        threads: CPU threads; None, or more than this process may use, for as many as it may.
        library: An opened library; None for the one that was installed.

    Raises:
        UnsupportedError: The bundle holds no native file.
        MissingDependencyError: The library was not built here.
        FormatError: The file is damaged.
        DeviceMemoryError: The session does not fit.
        UsageError: More threads than it takes.
    """

    name = "native"

    def __init__(
        self,
        bundle: Bundle,
        threads: Optional[int] = None,
        library: Optional[NativeLibrary] = None,
    ):
        path = optional_file(bundle, "native")
        if path is None:
            raise UnsupportedError(
                "the bundle holds no file for the native decoder.",
                hint="merino-edge build --target host --precision int8 CHECKPOINT -o bundle/",
            )
        self._library = library or NativeLibrary()
        self._model = self._library.open_model(path)
        spec, usable = bundle.manifest.native_cache, self._library.call.me_usable_threads()
        try:
            self._session = self._library.open_session(
                self._model, spec.context_len, threads or usable
            )
        except Exception:
            self._library.call.me_close(self._model)
            raise
        info, n_threads = self._library.info(self._model), min(threads or usable, usable)
        description = "native decoder, {} kernels, {} thread{}".format(
            info.kernels.decode("ascii"), n_threads, "" if n_threads == 1 else "s"
        )
        super().__init__(spec.context_len, info.vocab_size, spec.total_bytes, description)
        self.n_best = min(MOST_BEST, self.vocab_size)
        self._best_ids = np.empty(self.n_best, dtype=np.int32)
        self._best_logits = np.empty(self.n_best, dtype=np.float32)
        self._best_addresses = self._best_ids.ctypes.data, self._best_logits.ctypes.data
        self._last_logits = np.empty((1, self.vocab_size), dtype=np.float32)
        self._last_address = self._last_logits.ctypes.data

    def _forward(self, input_ids: np.ndarray, all_logits: bool) -> np.ndarray:
        self._go_to_position()
        if input_ids.size == 1:
            self._step(input_ids, self._last_address)
            return self._last_logits
        logits, address = self._last_logits, self._last_address
        if all_logits:
            logits = np.empty((input_ids.size, self.vocab_size), dtype=np.float32)
            address = logits.ctypes.data
        status = self._library.call.me_prefill(
            self._session, input_ids.ctypes.data, input_ids.size, len(logits), address
        )
        self._library.check(status)
        return logits

    def _forward_best(self, input_ids: np.ndarray, k: int) -> Tuple[np.ndarray, np.ndarray]:
        self._go_to_position()
        self._step(input_ids, None)
        status = self._library.call.me_best(self._session, k, *self._best_addresses)
        self._library.check(status)
        return self._best_ids[:k], self._best_logits[:k]

    def _step(self, input_ids: np.ndarray, logits_address: Optional[int]) -> None:
        status = self._library.call.me_step(self._session, int(input_ids[0]), logits_address)
        self._library.check(status)

    def _go_to_position(self) -> None:
        self._library.check(self._library.call.me_rewind(self._session, self.position))

    def _release(self) -> None:
        self._library.call.me_session_close(self._session)
        self._library.call.me_close(self._model)
