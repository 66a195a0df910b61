"""Requests that begin alike, as trees: each token that they share is computed once.

The one idea: sorted by their ids, requests that share a beginning lie next to each other, and what
one shares with the one before it is all it shares with anything earlier. So one walk over the
sorted list builds the trees, and nothing is looked up. A tree is what is attended together: a
request joins the tree before it if at least half of its tokens are there already, so the four
answers of a question make one tree, and two questions that begin with "Question:" make two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from merino_edge.model.packing import Tree
from merino_edge.pipeline.evaluation.requests import Request, shared

JOINING_SHARE = 0.5
MAX_TREE = 2048  # nodes; the square of it is attended


@dataclass
class Plan:
    """A tree, and which of its nodes predict what.

    Attributes:
        tree: To be packed.
        members: Places of its requests in the caller's list.
        rows: For each member, the nodes whose logits predict its continuation.
    """

    tree: Tree
    members: list[int]
    rows: list[np.ndarray]


def common_prefix(requests: Sequence[Request], least: int) -> int:
    """Tokens that all contexts begin with, 0 if fewer than ``least``; a token stays in each."""
    if len(requests) < 2:
        return 0
    first = min(requests, key=lambda r: r.context).context
    last = max(requests, key=lambda r: r.context).context
    n = min(shared(first, last), min(len(r.context) for r in requests) - 1)
    return n if n >= least else 0


def plans(requests: Sequence[Request], prefix: int = 0, max_tree: int = MAX_TREE) -> list[Plan]:
    """Trees of all requests, the largest first.

    Args:
        requests: Each fits the model.
        prefix: So many first tokens are left out; they are common to all.
        max_tree: Where a tree stops growing.
    """
    texts = [r.inputs[prefix:] for r in requests]
    order = sorted(range(len(requests)), key=texts.__getitem__)
    builders: list[_Builder] = []
    for place in order:
        text = texts[place]
        builder = builders[-1] if builders else None
        n_shared = builder.shares(text) if builder else 0
        joins = n_shared >= JOINING_SHARE * len(text)
        if builder is None or not joins or builder.size + len(text) - n_shared > max_tree:
            builder, n_shared = _Builder(), 0
            builders.append(builder)
        path = builder.add(text, n_shared)
        context = len(requests[place].context) - prefix
        builder.members.append(place)
        builder.rows.append(path[context - 1 :])
    found = [builder.plan() for builder in builders]
    return sorted(found, key=lambda plan: -len(plan.tree))


class _Builder:
    """A tree that grows text by text, in sorted order."""

    def __init__(self) -> None:
        self.size = 0
        self.members: list[int] = []
        self.rows: list[np.ndarray] = []
        self._text: tuple[int, ...] = ()
        self._path = np.zeros(0, dtype=np.int64)
        self._parts: list[tuple[tuple[int, ...], int, np.ndarray]] = []

    def shares(self, text: tuple[int, ...]) -> int:
        return shared(self._text, text)

    def add(self, text: tuple[int, ...], n_shared: int) -> np.ndarray:
        """The nodes of a text [its length], after adding those that it does not share."""
        new = np.arange(self.size, self.size + len(text) - n_shared)
        before = self._path[:n_shared]
        if len(new):
            self._parts.append((text[n_shared:], n_shared, before))
        self._path = np.concatenate([before, new])
        self._text = text
        self.size += len(new)
        return self._path

    def plan(self) -> Plan:
        ids = np.empty(self.size, dtype=np.int64)
        depths = np.empty(self.size, dtype=np.int64)
        sees = np.zeros((self.size, self.size), dtype=bool)
        start = 0
        for part, depth, before in self._parts:
            end = start + len(part)
            ids[start:end] = part
            depths[start:end] = np.arange(depth, depth + len(part))
            sees[start:end, before] = True
            sees[start:end, start:end] = np.tri(len(part), dtype=bool)
            start = end
        return Plan(Tree(ids, depths, sees), self.members, self.rows)
