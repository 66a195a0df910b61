"""Requests scored by a session: any bundle on any backend, so what is scored is what is deployed.

The one idea: a session holds one text. Sorted by their ids, requests that begin alike follow each
other, and the next one only needs what it does not share: the backend is *rewound* to where they
part. The logits after a context are kept, since each of its continuations begins with them; a
continuation of one token is answered by them alone.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from merino_edge.pipeline.evaluation.requests import Request, Score, check_requests, shared
from merino_edge.runtime.session import DEFAULT_CHUNK, GenerationSession, log_likelihoods


class SessionScorer:
    """Scores with a session, one text at a time.

    Args:
        session: Open; it is reset.
        context_len: Tokens to read at once, at most the session's; None for the session's.
        chunk: Tokens in a call of the backend.
    """

    def __init__(
        self, session: GenerationSession, context_len: int | None = None, chunk: int = DEFAULT_CHUNK
    ):
        self._backend = session.backend
        self.context_len = min(context_len or session.context_len, session.context_len)
        self._chunk = chunk
        self.description = f"{self._backend.name}: {self._backend.description}"

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, Score]]:
        """As ``Scorer.score``: in the order of their ids."""
        check_requests(requests, self.context_len)
        self._backend.reset()
        self._held: tuple[int, ...] = ()
        row, context = None, None  # the logits after a context, and that context
        for place in _order(requests):
            request = requests[place]
            if row is None or request.context != context:
                context = request.context
                row = self._read(context, len(context) - 1)[0].copy()
            sums = [_judge(row[None], request.continuation[:1])]
            if len(request.continuation) > 1:
                self._backend.rewind(len(context))
                sums += self._follow(request)
            yield place, Score(sum(found[0] for found in sums), all(found[1] for found in sums))

    def cost(self, requests: Sequence[Request]) -> list[float]:
        """As ``Scorer.cost``."""
        costs = [0.0] * len(requests)
        before: tuple[int, ...] = ()
        for place in _order(requests):
            inputs = requests[place].inputs
            costs[place] = float(max(1, len(inputs) - shared(before, inputs)))
            before = inputs
        return costs

    def continuation(self, ids: Sequence[int]) -> Iterator[int]:
        """As ``Scorer.continuation``."""
        self._backend.reset()
        self._held = ()
        logits = self._read(tuple(ids), 0)[0]
        while True:
            token = int(logits.argmax())
            yield token
            if self._backend.position == self.context_len:
                return
            logits = self._backend.decode(token)

    def _read(self, text: tuple[int, ...], most_known: int) -> np.ndarray:
        """Make the backend hold this text; logits after it [1, V], valid until the next call.

        Args:
            text: The text.
            most_known: At least what comes after so many tokens is read, even if it is there.
        """
        known = min(shared(self._held, text), most_known)
        self._backend.rewind(known)
        for start in range(known, len(text), self._chunk):
            logits = self._backend.prefill(text[start : start + self._chunk])
        self._held = text
        return logits

    def _follow(self, request: Request) -> list[tuple[float, bool]]:
        """The continuation's later tokens, each judged by the logits after the one before."""
        ids, targets = request.continuation[:-1], request.continuation[1:]
        found = []
        for start in range(0, len(ids), self._chunk):
            rows = self._backend.prefill(ids[start : start + self._chunk], all_logits=True)
            found.append(_judge(rows, targets[start : start + self._chunk]))
        self._held = request.inputs
        return found


def _order(requests: Sequence[Request]) -> list[int]:
    """Places by context, then continuation: what begins alike comes together."""
    return sorted(range(len(requests)), key=lambda place: requests[place])


def _judge(logits: np.ndarray, targets: Sequence[int]) -> tuple[float, bool]:
    """Sum of log softmax [n, V] at the targets [n], and whether each is its row's largest."""
    wanted = np.asarray(targets)
    likely = log_likelihoods(logits, wanted)
    return float(likely.sum()), bool((logits.argmax(axis=-1) == wanted).all())
