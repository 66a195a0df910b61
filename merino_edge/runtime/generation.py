"""One text being generated: an iterator of token ids that knows how it ended.

The one idea: work happens in ``__next__``, just before a token is handed out, so a token is out as
soon as it is known, and a caller who stops asking has stopped the model. Each step first looks for
a reason to end (cancelled, long enough, context full), then runs the backend, then picks.
"""

import time
from typing import Callable, Iterator, List, NamedTuple, NoReturn, Optional

import numpy as np

from merino_edge.runtime.backend import Backend
from merino_edge.runtime.sampling import GenerationConfig, Sampler
from merino_edge.runtime.text_stream import TextStream

Cancel = Callable[[], bool]


class Timings(NamedTuple):
    """How long a generation took, without the time the caller spent between tokens.

    Attributes:
        n_prompt: Tokens of the prompt.
        ttft_ms: From the first request to the first token, prefill included; None before it.
        itl_ms: Each later token: one decode step and one pick.
    """

    n_prompt: int
    ttft_ms: Optional[float]
    itl_ms: List[float]


class Generation(Iterator[int]):
    """Iterator of token ids; make one with ``GenerationSession.generate``.

    Attributes:
        output_ids: Tokens handed out so far.
        piece: Text that the last token made certain; "" where there is no tokenizer.
        finish_reason: None while running, then "stop" (end token or stop string), "length"
            (max_new_tokens, or the context is full) or "cancelled".
    """

    def __init__(
        self,
        backend: Backend,
        prompt_ids: List[int],
        config: GenerationConfig,
        prefill: Callable[[], Optional[np.ndarray]],
        text: Optional[TextStream],
        cancel: Optional[Cancel],
    ):
        self.output_ids = []  # type: List[int]
        self.piece = ""
        self.finish_reason = None  # type: Optional[str]
        self._backend = backend
        self._config = config
        self._prefill = prefill
        self._text = text
        self._cancel = cancel or _never
        self._sampler = Sampler(config, backend.vocab_size, prompt_ids)
        self._n_prompt = len(prompt_ids)
        self._token_ms = []  # type: List[float]

    def __next__(self) -> int:
        self.piece = ""
        self.finish_reason = self.finish_reason or self._reason_to_end()
        if self.finish_reason:
            raise StopIteration
        start = time.perf_counter()
        token_id = self._next_token()
        self._token_ms.append(1e3 * (time.perf_counter() - start))
        if token_id in (self._config.eos_token_ids or ()):
            self._end("stop")
        self.output_ids.append(token_id)
        if self._text is not None:
            self.piece = self._text.push(token_id)
        return token_id

    def pieces(self) -> Iterator[str]:
        """Run to the end, giving text instead of ids; nothing where there is no tokenizer."""
        for _ in self:
            if self.piece:
                yield self.piece
        rest = self._text.finish() if self._text is not None else ""
        if rest:
            yield rest

    @property
    def timings(self) -> Timings:
        """How long the tokens took, so far."""
        first = self._token_ms[0] if self._token_ms else None
        return Timings(self._n_prompt, first, self._token_ms[1:])

    def _reason_to_end(self) -> Optional[str]:
        if self._text is not None and self._text.stopped:
            return "stop"
        if self._cancel():
            return "cancelled"
        if len(self.output_ids) >= self._config.max_new_tokens:
            return "length"
        if self.output_ids and self._backend.position >= self._backend.context_len:
            return "length"
        return None

    def _next_token(self) -> int:
        if not self.output_ids:
            logits = self._prefill()
            if logits is None:
                self._end("cancelled")
            return self._sampler.pick(logits)
        last, n_best = self.output_ids[-1], self._config.n_deciding
        if 0 < n_best <= self._backend.n_best:
            return self._sampler.pick_among(*self._backend.decode_best(last, n_best))
        return self._sampler.pick(self._backend.decode(last))

    def _end(self, reason: str) -> NoReturn:
        self.finish_reason = reason
        raise StopIteration


def _never() -> bool:
    return False
