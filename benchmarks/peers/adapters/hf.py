"""transformers on torch, eager: what ``model.generate`` does, less its bookkeeping."""

from collections.abc import Sequence

import torch
import transformers

from adapters import seam


class Runtime(seam.Runtime):
    """A folder with ``config.json`` and ``model.safetensors``.

    Args:
        path: The folder.
        threads: CPU threads.
        context_len: Positions of a static cache.
        dtype: "float32" or "bfloat16".
        static: Keep keys and values in a cache of fixed length.
    """

    def __init__(self, path: str, threads: int, context_len: int, dtype: str, static: bool):
        torch.set_num_threads(threads)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=getattr(torch, dtype), local_files_only=True
        ).eval()
        self._context_len, self._static = context_len, static
        self._dtype = dtype
        self.reset()

    def prefill(self, ids: Sequence[int]) -> int:
        """In one call; logits of the last token only."""
        return self._run(torch.tensor([list(ids)]))

    def decode(self, token_id: int) -> int:
        """One step."""
        return self._run(torch.tensor([[token_id]]))

    def reset(self) -> None:
        """A new cache, as for a new text."""
        if self._static:
            self._cache = transformers.StaticCache(
                config=self._model.config, max_cache_len=self._context_len
            )
        else:
            self._cache = transformers.DynamicCache(config=self._model.config)

    def describe(self) -> str:
        """Versions, and which cache was taken."""
        cache = "static" if self._static else "dynamic"
        attention = self._model.config._attn_implementation
        versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
        return f"{versions}, {self._dtype}, {cache} cache, {attention}"

    @torch.inference_mode()
    def _run(self, ids: torch.Tensor) -> int:
        result = self._model(
            input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        return int(result.logits[0, -1].argmax())
