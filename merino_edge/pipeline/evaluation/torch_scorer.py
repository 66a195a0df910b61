"""Requests scored by the torch model: trees of tokens in one row, logits only where they count.

The one idea: three savings, each exact. What requests share is computed once (``trees``); what all
of them begin with, such as examples before a question, is computed once for the whole call
(``Prefix``); and the head, a fifth of a small model's work, runs only on the rows that predict a
token of a continuation. Trees of about one size go together, so hardly anything is padding.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from merino_edge.model.packing import Packing, Prefix, Tree
from merino_edge.model.transformer import Cache, MerinoLM
from merino_edge.pipeline.evaluation.requests import Request, Score, check_requests
from merino_edge.pipeline.evaluation.trees import Plan, common_prefix, plans

BATCH_TOKENS = 1024  # in a row
LEAST_PREFIX = 32  # fewer common tokens are not worth a pass of their own
HEAD_ROWS = 256  # logits at a time: 50 MB at a vocabulary of 49,152


class TorchScorer:
    """Scores with a model on the CPU, in float32.

    Args:
        model: Ready to be asked.
        context_len: Tokens that it reads at once.
        batch_tokens: Tokens in a row.
    """

    def __init__(self, model: MerinoLM, context_len: int, batch_tokens: int = BATCH_TOKENS):
        self._model = model.eval()
        self.context_len = context_len
        self._batch_tokens = batch_tokens
        threads = torch.get_num_threads()
        self.description = f"torch {torch.__version__} float32 on the CPU, {threads} threads"

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, Score]]:
        """As ``Scorer.score``: the longest first."""
        check_requests(requests, self.context_len)
        n_before = common_prefix(requests, LEAST_PREFIX)
        prefix = self._prefix(requests[0].context[:n_before]) if n_before else None
        for batch in _batches(plans(requests, n_before), self._batch_tokens):
            with torch.inference_mode():
                found = self._batch(batch, requests, prefix)
            yield from found

    def cost(self, requests: Sequence[Request]) -> list[float]:
        """As ``Scorer.cost``."""
        return tree_costs(requests, common_prefix(requests, LEAST_PREFIX))

    def continuation(self, ids: Sequence[int]) -> Iterator[int]:
        """As ``Scorer.continuation``."""
        cache = Cache(self._model.architecture, self.context_len)
        new = list(ids)
        while cache.position + len(new) <= self.context_len:
            with torch.inference_mode():
                logits = self._model(torch.tensor([new]), cache)[0, -1]
            new = [int(logits.argmax())]
            yield new[0]

    def _prefix(self, ids: Sequence[int]) -> Prefix:
        """Keys and values of what all requests begin with."""
        kept = Prefix(len(ids))
        n = len(ids)
        tree = Tree(np.array(ids), np.arange(n), np.tri(n, dtype=bool))
        with torch.inference_mode():
            self._model.packed(Packing([tree], keep=kept))
        return kept

    def _batch(
        self, batch: list[Plan], requests: Sequence[Request], prefix: Prefix | None
    ) -> list[tuple[int, Score]]:
        hidden = self._model.packed(Packing([plan.tree for plan in batch], prefix))
        members, lengths, rows, targets = [], [], [], []
        start = 0
        for plan in batch:
            for place, nodes in zip(plan.members, plan.rows, strict=True):
                members.append(place)
                lengths.append(len(nodes))
                rows.append(nodes + start)
                targets.append(requests[place].continuation)
            start += len(plan.tree)
        likely, best = self._head(hidden, np.concatenate(rows), np.concatenate(targets))
        ends = np.cumsum(lengths)
        return [
            (place, Score(float(likely[end - n : end].sum()), bool(best[end - n : end].all())))
            for place, end, n in zip(members, ends, lengths, strict=True)
        ]

    def _head(
        self, hidden: torch.Tensor, rows: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log-likelihood of each target after its row, and whether it is the likeliest."""
        unique, back = np.unique(rows, return_inverse=True)
        order = np.argsort(back, kind="stable")
        sorted_back, sorted_targets = back[order], torch.from_numpy(targets[order])
        likely, best = np.empty(len(rows)), np.empty(len(rows), dtype=bool)
        for first in range(0, len(unique), HEAD_ROWS):
            nodes = torch.from_numpy(unique[first : first + HEAD_ROWS])
            logits = self._model.logits(hidden[nodes])
            low, high = np.searchsorted(sorted_back, [first, first + len(nodes)])
            wanted = torch.from_numpy(sorted_back[low:high] - first)
            target = sorted_targets[low:high]
            chosen = logits[wanted, target].double()
            largest, winner = logits.max(dim=-1)
            total = logits.sub_(largest[:, None]).exp_().sum(dim=-1)  # in float64: 5 % slower
            norm = largest.double() + total.double().log()
            likely[order[low:high]] = (chosen - norm[wanted]).numpy()
            best[order[low:high]] = (winner[wanted] == target).numpy()
        return likely, best


def tree_costs(requests: Sequence[Request], prefix: int = 0) -> list[float]:
    """Tokens of each request's tree, split evenly among its requests."""
    costs = [0.0] * len(requests)
    for plan in plans(requests, prefix):
        for place in plan.members:
            costs[place] = len(plan.tree) / len(plan.members)
    return costs


def _batches(found: list[Plan], batch_tokens: int) -> Iterator[list[Plan]]:
    """Plans whose trees, padded to the largest of them, fill about ``batch_tokens``."""
    batch: list[Plan] = []
    n_tokens = 0
    for plan in found:
        if batch and n_tokens + len(plan.tree) > batch_tokens:
            yield batch
            batch, n_tokens = [], 0
        batch.append(plan)
        n_tokens += len(plan.tree)
    if batch:
        yield batch
