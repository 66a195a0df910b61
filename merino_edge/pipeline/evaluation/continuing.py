"""Greedy continuations of a text, for tasks that ask for text instead of likelihoods.

A bundle continues in its session, as deployed; a checkpoint in torch, with a cache.
"""

import itertools
from collections.abc import Sequence

from merino_edge.pipeline.evaluation.scored_model import ScoredModel
from merino_edge.runtime.text_stream import TextStream


def greedy_text(model: ScoredModel, context: str, stops: Sequence[str], n_most: int) -> str:
    """What the model writes after a context, without the stop string that ended it.

    Args:
        model: Opened.
        context: Is cut from the left where it and ``n_most`` tokens do not fit.
        stops: Any of them ends the text.
        n_most: Tokens at most.
    """
    room = max(1, model.scorer.context_len - n_most)
    ids = model.encode(context)[-room:]
    ends = set(model.generation.eos_token_ids)
    text = TextStream(model.tokenizer.decode, [stop for stop in stops if stop])
    pieces = []
    n_most = min(n_most, model.scorer.context_len - len(ids))
    for token in itertools.islice(model.scorer.continuation(ids), n_most):
        if token in ends:
            break
        pieces.append(text.push(token))
        if text.stopped:
            break
    if not text.stopped:
        pieces.append(text.finish())
    return "".join(pieces)
