"""onnxruntime-genai on the folder that its own builder makes."""

from collections.abc import Sequence

import numpy as np
import onnxruntime_genai as og

from adapters import seam


class Runtime(seam.Runtime):
    """A folder with ``genai_config.json``.

    Args:
        path: The folder.
        threads: CPU threads of the session.
        context_len: Positions of the cache.
        forced: Give it the tokens; else it goes on with its own.
    """

    def __init__(self, path: str, threads: int, context_len: int, forced: bool):
        config = og.Config(path)
        option = f'"intra_op_num_threads": {threads}'
        config.overlay(f'{{"model": {{"decoder": {{"session_options": {{{option}}}}}}}}}')
        self._model = og.Model(config)
        self._context_len = context_len
        self.follows_itself = not forced
        self.reset()

    def prefill(self, ids: Sequence[int]) -> int:
        """Append them in one call; its own loop then takes the best, which runs nothing."""
        self._generator.append_tokens(np.asarray(ids, np.int32))
        return self._next() if self.follows_itself else self._best()

    def decode(self, token_id: int) -> int:
        """One step."""
        if self.follows_itself:
            return self._next()
        self._generator.append_tokens(np.array([token_id], np.int32))
        return self._best()

    def reset(self) -> None:
        """A new generator, as for a new text."""
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=self._context_len, do_sample=False)
        self._generator = og.Generator(self._model, params)

    def describe(self) -> str:
        """Which way of stepping was taken."""
        way = "generate_next_token" if self.follows_itself else "append_tokens"
        return f"onnxruntime-genai {og.__version__}, {way}"

    def _next(self) -> int:
        self._generator.generate_next_token()
        return int(self._generator.get_next_tokens()[0])

    def _best(self) -> int:
        return int(self._generator.get_logits()[0, -1].argmax())
