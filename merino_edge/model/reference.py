"""Greedy decoding without a cache: slow, obvious, the truth that faster paths are held to."""

from typing import NamedTuple

import torch

from merino_edge.model.transformer import MerinoLM


class GreedyStep(NamedTuple):
    """One token, and how clear the choice was.

    Attributes:
        token: The most likely one.
        margin: Its logit minus the second best. Another implementation rounds differently, so a
            margin near its error is a tie that it may break the other way.
        logit: The token's own logit.
        spread: Standard deviation of all logits.
    """

    token: int
    margin: float
    logit: float
    spread: float


@torch.no_grad()
def greedy_steps(model: MerinoLM, input_ids: list[int], n_tokens: int) -> list[GreedyStep]:
    """The most likely continuation, recomputing the whole sequence for every token.

    Args:
        model: In any mode; there is no dropout.
        input_ids: The prompt, at least one token.
        n_tokens: How many to add; fewer come back when the sequence is full.
    """
    sequence, steps = list(input_ids), []
    room = model.architecture.max_seq_len - len(sequence)
    for _ in range(min(n_tokens, room)):
        logits = model(torch.tensor([sequence]))[0, -1]
        best = logits.topk(2)
        first, second = (float(value) for value in best.values)
        steps.append(GreedyStep(int(best.indices[0]), first - second, first, float(logits.std())))
        sequence.append(steps[-1].token)
    return steps


def greedy_tokens(model: MerinoLM, input_ids: list[int], n_tokens: int) -> list[int]:
    """The tokens of ``greedy_steps``."""
    return [step.token for step in greedy_steps(model, input_ids, n_tokens)]
