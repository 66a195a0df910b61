"""How well a model predicts a text: loss, perplexity, bits per byte.

The one idea: windows of ``seq_len`` tokens lie end to end, and every token but the text's first
is predicted once, from what stands before it in its window. The first tokens of a window have
little to go by, so a longer window gives a lower loss; figures compare at equal ``seq_len`` only.
Bits per byte do not depend on the tokenizer and compare across vocabularies.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from merino_edge.errors import SpecError
from merino_edge.training.data import TokenStream
from merino_edge.training.world import World

Tokens = np.ndarray | TokenStream

BATCH_TOKENS = 8192  # at a vocabulary of 2048 the logits of one batch take 67 MB


@dataclass(frozen=True)
class Evaluation:
    """Loss over some tokens.

    Attributes:
        loss: Mean negative log-likelihood, nats per token.
        n_tokens: Tokens that were predicted.
    """

    loss: float
    n_tokens: int

    @property
    def perplexity(self) -> float:
        """exp(loss), per token."""
        return math.exp(self.loss)

    def bits_per_byte(self, tokens_per_byte: float) -> float:
        """Loss in bits per UTF-8 byte of the text, given its tokens per byte."""
        return self.loss / math.log(2) * tokens_per_byte


def evaluate(
    model: nn.Module,
    tokens: Tokens,
    seq_len: int,
    max_tokens: int | None = None,
    world: World | None = None,
) -> Evaluation:
    """Loss of a model over a text, in float32.

    Args:
        model: Ids [B, T] -> logits [B, T, V].
        tokens: [n] ids, at least two; anything with a length and slices.
        seq_len: Tokens a window.
        max_tokens: Take about so many, in windows evenly spread over the text; None for all.
        world: Processes that share the work; each calls this and gets the whole result.

    Raises:
        SpecError: Fewer than two tokens.
    """
    if len(tokens) < 2:
        raise SpecError(f"{len(tokens)} token(s) cannot be evaluated; two are needed.")
    world = world or World()
    training, device = model.training, next(model.parameters()).device
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for number, batch in enumerate(_batches(tokens, seq_len, max_tokens)):
            if number % world.size == world.rank:
                total += _summed_loss(model, batch.to(device))
                count += batch[:, 1:].numel()
    model.train(training)
    sums = world.sum(torch.tensor([total, count], dtype=torch.float64)).tolist()
    return Evaluation(sums[0] / sums[1], int(sums[1]))


def _summed_loss(model: nn.Module, batch: torch.Tensor) -> float:
    """Of the targets of windows [B, T + 1], nats."""
    logits = model(batch[:, :-1]).float()
    return float(F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum"))


def _batches(tokens: Tokens, seq_len: int, max_tokens: int | None) -> Iterator[torch.Tensor]:
    """[B, T + 1] ids: windows that share one token; the last may be shorter and comes alone."""
    starts = _window_starts(len(tokens), seq_len, max_tokens)
    whole = [start for start in starts if start + seq_len < len(tokens)]
    per_batch = max(1, BATCH_TOKENS // seq_len)
    groups = [whole[i : i + per_batch] for i in range(0, len(whole), per_batch)]
    for group in groups + [[start] for start in starts[len(whole) :]]:
        rows = np.stack([tokens[start : start + seq_len + 1] for start in group])
        yield torch.from_numpy(rows.astype(np.int64))


def _window_starts(n_tokens: int, seq_len: int, max_tokens: int | None) -> list[int]:
    starts = list(range(0, n_tokens - 1, seq_len))
    n_wanted = len(starts) if max_tokens is None else max(1, max_tokens // seq_len)
    if n_wanted >= len(starts):
        return starts
    return [starts[i * len(starts) // n_wanted] for i in range(n_wanted)]
