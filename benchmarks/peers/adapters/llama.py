"""llama.cpp, by the C functions that llama-cpp-python exports: no loop of Python's in a step."""

import ctypes
from collections.abc import Sequence

import llama_cpp
import llama_cpp.llama_cpp as api
import numpy as np

from adapters import seam

CHUNK = 512  # llama.cpp's default of n_ubatch
_FLASH = {True: api.LLAMA_FLASH_ATTN_TYPE_ENABLED, False: api.LLAMA_FLASH_ATTN_TYPE_DISABLED}
_quiet = api.llama_log_callback(lambda level, text, data: None)


class Runtime(seam.Runtime):
    """A GGUF file.

    Args:
        path: The file.
        threads: CPU threads, of steps and of prompts.
        context_len: Positions of the cache.
        flash: Flash attention.
    """

    def __init__(self, path: str, threads: int, context_len: int, flash: bool):
        api.llama_log_set(_quiet, ctypes.c_void_p(0))
        api.llama_backend_init()
        self._model = api.llama_model_load_from_file(
            path.encode(), api.llama_model_default_params()
        )
        if not self._model:
            raise RuntimeError("llama.cpp does not load the file")
        params = api.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context_len, CHUNK, CHUNK
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type, params.no_perf = _FLASH[flash], True
        self._context = api.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError("llama.cpp makes no context")
        n_vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model))
        self._shape = (n_vocab,)
        self._flash = flash

    def prefill(self, ids: Sequence[int]) -> int:
        """In chunks of ``CHUNK``."""
        array = np.asarray(ids, np.int32)
        for start in range(0, len(array), CHUNK):
            best = self._run(array[start : start + CHUNK])
        return best

    def decode(self, token_id: int) -> int:
        """One step."""
        return self._run(np.array([token_id], np.int32))

    def reset(self) -> None:
        """Forget the cells, leave their bytes."""
        api.llama_memory_clear(api.llama_get_memory(self._context), False)

    def describe(self) -> str:
        """What it says that it was compiled for."""
        info = api.llama_print_system_info().decode().split("|")
        used = [word.split("=")[0].strip() for word in info if word.strip().endswith("= 1")]
        flash = "on" if self._flash else "off"
        version = f"llama-cpp-python {llama_cpp.__version__}"
        return f"{version}, flash attention {flash}; {', '.join(used).removeprefix('CPU : ')}"

    def _run(self, ids: np.ndarray) -> int:
        pointer = ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        if api.llama_decode(self._context, api.llama_batch_get_one(pointer, len(ids))):
            raise RuntimeError("llama_decode failed")
        logits = api.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, self._shape).argmax())
