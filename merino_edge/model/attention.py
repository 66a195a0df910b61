"""Causal attention with grouped heads and an optional cache.

Queries, keys and values come from one matrix (``qkv``), so that decoding reads one stream of
weights. The cache is sequence-major, like the one on the board: a row holds all heads of a token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.model.layers import apply_rope
from merino_edge.model.packing import PackedLayer

LONGEST_BY_PRODUCTS = 512  # positions


@dataclass
class LayerCache:
    """Keys and values of one layer application, each [B, capacity, n_kv_head, head_dim]."""

    key: Tensor
    value: Tensor

    def extend(self, position: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write new rows at ``position``; returns all rows up to and including them."""
        end = position + key.shape[1]
        self.key[:, position:end] = key
        self.value[:, position:end] = value
        return self.key[:, :end], self.value[:, :end]


class Attention(nn.Module):
    """Attention of one block; its weights serve every application of the block."""

    def __init__(self, a: Architecture, block: BlockSpec):
        super().__init__()
        self.block = block
        self.qkv = nn.Linear(block.d_model, block.qkv_dim, bias=a.attention_bias)
        self.out = nn.Linear(block.n_head * block.head_dim, block.d_model, bias=a.attention_bias)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor] | None,
        cache: LayerCache | PackedLayer | None,
        position: int,
    ) -> Tensor:
        """x [B, T, d_model] -> [B, T, d_model]; ``position`` is where the first row stands."""
        b, t, _ = x.shape
        block = self.block
        n_rotated = block.n_head + block.n_kv_head
        heads = self.qkv(x).view(b, t, n_rotated + block.n_kv_head, block.head_dim)
        qk, value = heads.split((n_rotated, block.n_kv_head), dim=2)
        if rope is not None:
            qk = apply_rope(qk, *rope)
        query, key = qk.split((block.n_head, block.n_kv_head), dim=2)
        if isinstance(cache, PackedLayer):
            mixed = cache.attend(query, key, value)
        else:
            if cache is not None:
                key, value = cache.extend(position, key, value)
            mixed = self._attend(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(b, t, -1))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query [B, T, H, D], key and value [B, S, H_kv, D] -> [B, H, T, D]."""
        group = self.block.n_head // self.block.n_kv_head
        query, key, value = (y.transpose(1, 2) for y in (query, key, value))
        if group > 1:
            key = key.repeat_interleave(group, dim=1)
            value = value.repeat_interleave(group, dim=1)
        t, s = query.shape[2], key.shape[2]
        if t == s and suits_products(query):
            return attend_by_products(query, key, value)
        if t == s:
            return F.scaled_dot_product_attention(query, key, value, is_causal=True)
        visible = torch.ones(t, s, dtype=torch.bool, device=query.device).tril(s - t)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=visible)


def suits_products(query: Tensor) -> bool:
    """Short windows in bfloat16 on a CPU, where whole products beat torch's fused attention.

    Forward and backward of 4 x 7 heads of 32 on one core with AMX, torch 2.13.0: 5.9 against 15.3
    ms for windows of 256, 12.3 against 20.2 for 512, 26.4 against 23.5 for 1024. In float32 the
    fused one is faster from 128 on (Intel Xeon, 29 November 2026).
    """
    short = query.shape[2] <= LONGEST_BY_PRODUCTS
    return short and query.dtype == torch.bfloat16 and query.device.type == "cpu"


def attend_by_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention, all scores at once: query, key and value [B, H, T, D] -> [B, H, T, D]."""
    b, h, t, d = query.shape
    rows, columns, values = (y.reshape(b * h, t, d) for y in (query, key, value))
    later = torch.full((t, t), float("-inf"), dtype=query.dtype, device=query.device).triu(1)
    scores = torch.baddbmm(later, rows, columns.transpose(1, 2), alpha=d**-0.5)
    return torch.bmm(scores.softmax(-1), values).view(b, h, t, d)
