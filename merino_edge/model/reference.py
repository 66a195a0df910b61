"""Greedy decoding without a cache: slow, obvious, the truth that faster paths are held to."""

import torch

from merino_edge.model.transformer import MerinoLM


@torch.no_grad()
def greedy_tokens(model: MerinoLM, input_ids: list[int], n_tokens: int) -> list[int]:
    """The most likely continuation, recomputing the whole sequence for every token.

    Args:
        model: In any mode; there is no dropout.
        input_ids: The prompt, at least one token.
        n_tokens: How many to add; fewer come back when the sequence is full.
    """
    sequence = list(input_ids)
    room = model.architecture.max_seq_len - len(sequence)
    for _ in range(min(n_tokens, room)):
        logits = model(torch.tensor([sequence]))
        sequence.append(int(logits[0, -1].argmax()))
    return sequence[len(input_ids) :]
