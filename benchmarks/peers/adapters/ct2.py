"""CTranslate2: its generator takes a prompt and hands out tokens as they come.

It cannot be given tokens one by one, so a text that grows is read anew (outside the time of steps),
and steps follow the generator's own choice: the work of a step is the same. Its thread runs ahead
of who listens, so a stream is as long as the steps that are asked for, and is read to its end.
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
        self._ids: list[int] = []

    def prefill(self, ids: Sequence[int]) -> int:
        """Read the whole text so far, and wait for one token."""
        self._ids += ids
        return next(self._stream(1))

    def decode(self, token_id: int) -> int:
        """One step, after the whole text was read anew."""
        return self.follow([token_id])[0]

    def timed_decode(self, ids: Sequence[int]) -> list[float]:
        """Between tokens of one stream; its first token ends the reading of the text."""
        marks = [time.perf_counter() for _ in self._stream(len(ids) + 1)]
        self._ids += ids
        return [1e3 * (after - before) for before, after in itertools.pairwise(marks)]

    def follow(self, ids: Sequence[int]) -> list[int]:
        """Its own choices, whatever the ids."""
        found = list(self._stream(len(ids) + 1))
        self._ids += ids
        return found[1:]

    def reset(self) -> None:
        """Forget the text."""
        self._ids = []

    def describe(self) -> str:
        """Version and type."""
        return f"ctranslate2 {ctranslate2.__version__}, {self._generator.compute_type}"

    def _stream(self, n_tokens: int) -> Iterator[int]:
        text = [self._words[i] for i in self._ids]
        steps = self._generator.generate_tokens(
            text, max_length=n_tokens, min_length=n_tokens, sampling_topk=1
        )
        return (step.token_id for step in steps)
