"""Several texts in one row: what they share is computed once, and nothing is padded.

The one idea: every layer but attention treats tokens one by one, so the tokens of many texts may
stand in one long row [1, N]; attention alone needs to know who sees whom. Texts that begin alike
form a *tree* (a question and its four answers): a token sees its ancestors, and its position is its
depth, so each branch gets what it would get alone. Trees of about one size are attended together.

``MerinoLM.packed`` takes a ``Packing``; which texts belong together, and what is asked of them, is
the caller's business. Shapes: N tokens in the row, G trees, T nodes of the largest tree, P tokens
that all trees begin with, H heads, D head size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

FUSED_FROM = 256  # tokens of a tree from which torch's own attention is the faster one


@dataclass(frozen=True)
class Tree:
    """Tokens of texts that begin alike; parents come before children.

    Attributes:
        ids: Token ids [T].
        depths: Where each stands in its text [T].
        sees: Who sees whom, bool [T, T]: the ancestors, and the token itself.
    """

    ids: np.ndarray
    depths: np.ndarray
    sees: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class Prefix:
    """Keys and values of tokens that come before all trees, by layer, each [P, H_kv, D]."""

    n_tokens: int = 0
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)


class Packing:
    """Trees in one row, ready for ``MerinoLM.packed``.

    Args:
        trees: At least one.
        prefix: What comes before each of them; None for nothing.
        keep: Fill this with the row's own keys and values: the trees are then one unbranched text.

    Attributes:
        ids: [1, N] token ids.
        positions: [N].
    """

    def __init__(
        self, trees: Sequence[Tree], prefix: Prefix | None = None, keep: Prefix | None = None
    ):
        self._prefix, self._keep = prefix, keep
        before = prefix.n_tokens if prefix else 0
        self.ids = torch.from_numpy(np.concatenate([tree.ids for tree in trees]))[None]
        depths = np.concatenate([tree.depths for tree in trees])
        self.positions = torch.from_numpy(depths + before)
        sizes = [len(tree) for tree in trees]
        n_most, starts = max(sizes), np.cumsum([0, *sizes[:-1]])
        # Where each tree's nodes stand in the row, [G, T]; a place that is none repeats the first.
        place = np.zeros((len(trees), n_most), dtype=np.int64)
        sees = np.zeros((len(trees), 1, n_most, before + n_most), dtype=bool)
        sees[..., 0] = True  # whoever sees nothing would be NaN
        back = np.empty(sum(sizes), dtype=np.int64)
        for g, (tree, start, size) in enumerate(zip(trees, starts, sizes, strict=True)):
            place[g, :size] = np.arange(start, start + size)
            back[start : start + size] = g * n_most + np.arange(size)
            sees[g, 0, :size, :before] = True
            sees[g, 0, :size, before : before + size] = tree.sees
            if before == 0:
                sees[g, 0, :size, 0] = tree.sees[:, 0]
        hidden = torch.zeros(sees.shape).masked_fill_(~torch.from_numpy(sees), float("-inf"))
        self._hidden = hidden[:, :, None]  # [G, 1, 1, T, P + T], added to scores
        self._shape = len(trees), n_most
        alone = len(trees) == 1  # nothing to gather
        self._place = None if alone else torch.from_numpy(place.reshape(-1))
        self._back = None if alone else torch.from_numpy(back)

    def layers(self, n_layers: int) -> "Iterator[PackedLayer]":
        """One a layer application, in the order they run."""
        return (PackedLayer(self, layer) for layer in range(n_layers))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query [1, N, H, D], key and value [1, N, H_kv, D] -> [1, H, N, D]."""
        if self._keep is not None:
            self._keep.keys.append(key[0])
            self._keep.values.append(value[0])
        query, key, value = (self._gathered(x[0]) for x in (query, key, value))  # [G, T, H, D]
        if self._prefix is not None and self._prefix.n_tokens:
            key = _behind(self._prefix.keys[layer], key)
            value = _behind(self._prefix.values[layer], value)
        mixed = _attend(query, key, value, self._hidden).flatten(0, 1)  # [G x T, H, D]
        if self._back is not None:
            mixed = mixed.index_select(0, self._back)
        return mixed.transpose(0, 1)[None]

    def _gathered(self, rows: Tensor) -> Tensor:
        """[N, H, D] -> [G, T, H, D]."""
        if self._place is not None:
            rows = rows.index_select(0, self._place)
        return rows.view(*self._shape, *rows.shape[1:])


class PackedLayer:
    """One layer's place in a packing; attention takes it where it would take a cache."""

    def __init__(self, packing: Packing, layer: int):
        self._packing, self._layer = packing, layer

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As ``Packing.attend``."""
        return self._packing.attend(self._layer, query, key, value)


def _behind(prefix: Tensor, rows: Tensor) -> Tensor:
    """[P, H_kv, D] before each of [G, T, H_kv, D]."""
    return torch.cat((prefix.expand(len(rows), *prefix.shape), rows), dim=1)


def _attend(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor) -> Tensor:
    """[G, T, H, D] among [G, S, H_kv, D] -> [G, T, H, D].

    Small matrices are better multiplied in one batch, with the heads that share keys as rows of one
    matrix: 26 trees of 39 tokens take 3.6 ms so and 4.8 in torch's fused attention, 13 of 79 take
    5.2 and 8.7, 3 of 330 take 17.3 and 13.1 (one core of a Xeon, 9 heads on 3, torch 2.13).
    """
    n_trees, n, n_head, head_dim = query.shape
    n_kv, n_all = key.shape[2], key.shape[1]
    if n_all > FUSED_FROM:
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        mask = hidden[:, 0]
        mixed = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=n_kv != n_head)
        return mixed.transpose(1, 2)
    group, pairs = n_head // n_kv, n_trees * n_kv
    q = query.view(n_trees, n, n_kv, group, head_dim).permute(0, 2, 3, 1, 4)
    q = q.reshape(pairs, group * n, head_dim)
    k = key.permute(0, 2, 3, 1).reshape(pairs, head_dim, n_all)
    v = value.transpose(1, 2).reshape(pairs, n_all, head_dim)
    scores = torch.bmm(q, k).view(n_trees, n_kv, group, n, n_all)
    shares = scores.mul_(head_dim**-0.5).add_(hidden).softmax(dim=-1)
    mixed = torch.bmm(shares.view(pairs, group * n, n_all), v)
    mixed = mixed.view(n_trees, n_kv, group, n, head_dim).permute(0, 3, 1, 2, 4)
    return mixed.reshape(n_trees, n, n_head, head_dim)
