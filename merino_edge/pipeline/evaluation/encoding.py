"""Texts to requests, by lm-evaluation-harness's own rules.

The one idea: where a context ends and a continuation begins is a matter of convention (a blank at
the border goes to the continuation; the two are encoded together and cut by the context's length),
and that convention is code of the harness. So its ``TemplateLM`` encodes, and here only the token
ids are taken from it: the same ids, by construction.
"""

from collections.abc import Sequence
from typing import Any

from merino_edge.pipeline.evaluation.lm_eval_door import lm_eval
from merino_edge.pipeline.evaluation.requests import Request, truncated
from merino_edge.pipeline.evaluation.scored_model import ScoredModel


class TextRequests(lm_eval().api.model.TemplateLM):  # type: ignore[misc]
    """Makes requests of (context, continuation) texts.

    Attributes:
        n_truncated: Requests whose context was cut from the left, so far.
    """

    def __init__(self, model: ScoredModel):
        super().__init__()
        self._model = model
        self.n_truncated = 0

    def requests(self, instances: Sequence[Any]) -> list[Request]:
        """Of instances of the harness that ask for a log-likelihood."""
        found: list[Request] = super().loglikelihood(list(instances), disable_tqdm=True)
        return found

    @property
    def eot_token_id(self) -> int:
        """Stands before what has nothing before it."""
        return self._model.prefix_token_id

    @property
    def max_length(self) -> int:
        """Tokens that the model reads at once."""
        return self._model.scorer.context_len

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids; the model's first token comes before them unless it is not wanted."""
        if add_special_tokens is False:
            return self._model.tokenizer.encode(string)
        return self._model.encode(string)

    def _loglikelihood_tokens(self, requests: list[Any], **kwargs: Any) -> list[Any]:
        return [self._fitting(Request(tuple(c), tuple(t))) for _, c, t in requests]

    def _fitting(self, request: Request) -> Request:
        fits = truncated(request, self.max_length)
        self.n_truncated += fits is not request
        return fits

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """Not encoded here."""
        raise NotImplementedError

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """Not encoded here."""
        raise NotImplementedError
