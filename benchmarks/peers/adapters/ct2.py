"""CTranslate2: its generator takes a prompt and hands out tokens as they come.

It cannot be given tokens one by one, so a prompt that grows is read anew, and steps follow the
generator's own choice: the work of a step is the same. The time of a step is that between two
tokens of its stream.
"""

import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence

import ctranslate2

from adapters import seam


class Runtime(seam.Runtime):
    """A converted folder.

    Args:
        path: The folder.
        threads: CPU threads.
        context_len: Positions, the longest text.
        compute_type: Such as "int8".
    """

    follows_itself = True

    def __init__(self, path: str, threads: int, context_len: int, compute_type: str):
        self._generator = ctranslate2.Generator(
            path, device="cpu", intra_threads=threads, inter_threads=1, compute_type=compute_type
        )
        with open(os.path.join(path, "vocabulary.json"), encoding="utf-8") as stream:
            self._words = json.load(stream)
        self._context_len = context_len
        self.reset()

    def prefill(self, ids: Sequence[int]) -> int:
        """Read the whole text so far, and wait for the first token of the stream."""
        self._ids += ids
        self._stream = self._start()
        return next(self._stream)

    def decode(self, token_id: int) -> int:
        """The next token of the stream."""
        found = next(self._stream)
        self._ids.append(token_id)
        return found

    def timed_decode(self, ids: Sequence[int]) -> list[float]:
        """Between tokens, a stream for all; the first token of it is the prompt's."""
        marks = [time.perf_counter()]
        for token_id in ids:
            self.decode(token_id)
            marks.append(time.perf_counter())
        return [1e3 * (after - before) for before, after in itertools.pairwise(marks)]

    def reset(self) -> None:
        """End the stream."""
        self._ids: list[int] = []
        self._stream: Iterator[int] = iter(())

    def describe(self) -> str:
        """Version and type."""
        return f"ctranslate2 {ctranslate2.__version__}, {self._generator.compute_type}"

    def _start(self) -> Iterator[int]:
        text = [self._words[i] for i in self._ids]
        room = self._context_len - len(text)
        steps = self._generator.generate_tokens(
            text, max_length=room, min_length=room, sampling_topk=1
        )
        return (step.token_id for step in steps)
