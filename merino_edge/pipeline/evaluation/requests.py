"""What evaluation asks of a model: how likely is this continuation of that context?

The one idea: everything is the same small question. A choice of an answer is a continuation of its
question; a window of a text is a continuation of the tokens before it. So there is one ``Request``,
one ``Score`` and one interface, ``Scorer``, with one implementation for torch and one for a
session on any backend; the harness's adapter, our own tasks and perplexity all ask through it, and
a journal can stand between them because a request's ids are its name.

Not known here: text, tokenizers, tasks.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from merino_edge.errors import SessionError


class Request(NamedTuple):
    """Token ids of a context and of what follows it; neither is empty.

    Attributes:
        context: Given.
        continuation: Scored.
    """

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the model reads: all but the last token, which is only predicted."""
        return self.context + self.continuation[:-1]

    @property
    def key(self) -> str:
        """Twenty hexadecimal digits that name the request, whatever asked it."""
        ids = np.asarray((len(self.context), *self.context, *self.continuation), dtype="<i4")
        return hashlib.sha256(ids.tobytes()).hexdigest()[:20]


class Score(NamedTuple):
    """A model's answer.

    Attributes:
        log_likelihood: Of the whole continuation, natural logarithm.
        is_greedy: Every token of it is the model's likeliest.
    """

    log_likelihood: float
    is_greedy: bool


class Scorer(Protocol):
    """What scores requests.

    Attributes:
        description: What computes, for people.
        context_len: Tokens that the model reads at once; a request may be one longer.
    """

    description: str
    context_len: int

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, Score]]:
        """Scores in the order that suits the scorer, each with its request's place.

        Raises:
            SessionError: A request does not fit.
        """
        ...

    def cost(self, requests: Sequence[Request]) -> list[float]:
        """About how much work each is, for the time that remains; in tokens, shared ones split."""
        ...

    def continuation(self, ids: Sequence[int]) -> Iterator[int]:
        """The likeliest tokens after a text, one by one, until the context is full."""
        ...


def truncated(request: Request, context_len: int) -> Request:
    """The request without the tokens, from the left, that the model cannot read.

    As lm-evaluation-harness does: the last ``context_len + 1`` tokens stay, one of which is only
    predicted.

    Raises:
        SessionError: The continuation alone is too long.
    """
    surplus = len(request.context) + len(request.continuation) - (context_len + 1)
    if surplus <= 0:
        return request
    if surplus >= len(request.context):
        raise SessionError(
            f"a continuation of {len(request.continuation)} tokens does not fit: the model reads "
            f"{context_len} at once.",
            hint="evaluate with a longer --context, or build the bundle with one.",
        )
    return Request(request.context[surplus:], request.continuation)


def check_requests(requests: Sequence[Request], context_len: int) -> None:
    """Refuse what no scorer can take.

    Raises:
        SessionError: Something is empty, or too long.
    """
    for request in requests:
        if not request.context or not request.continuation:
            raise SessionError("a request needs a token before, and one to score.")
        if len(request.inputs) > context_len:
            raise SessionError(
                f"a request of {len(request.inputs)} tokens does not fit: the model reads "
                f"{context_len} at once."
            )


def windows(ids: Sequence[int], prefix: int, context_len: int, stride: int) -> Iterator[Request]:
    """Requests that predict every token of a text once.

    The first window follows the prefix token alone and predicts ``context_len`` tokens. Each later
    one predicts ``stride`` new ones, from as many before them as fit: a stride of ``context_len``
    gives windows end to end (each knows only the one token before it), as
    ``loglikelihood_rolling`` of lm-evaluation-harness does; a smaller stride gives every token at
    least ``context_len - stride`` to go by, and costs ``context_len / stride`` times as much.

    Args:
        ids: The text.
        prefix: Stands before it.
        context_len: Tokens that the model reads at once.
        stride: From 1 to ``context_len``.
    """
    first = min(context_len, len(ids))
    if first:
        yield Request((prefix,), tuple(ids[:first]))
    for done in range(first, len(ids), stride):
        end = min(done + stride, len(ids))
        yield Request(tuple(ids[end - context_len - 1 : done]), tuple(ids[done:end]))


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginnings."""
    most = min(len(one), len(other))
    if one[:most] == other[:most]:
        return most
    low, high = 0, most  # texts of thousands of tokens are compared, so not one by one
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
