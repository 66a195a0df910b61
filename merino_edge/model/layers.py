"""The small parts of a decoder: norm, rotary positions, feed-forward.

Each is the standard one of its family, chosen by the words in ``Architecture``; none of them
knows about caches or sharing. Shapes: B batch, T time, H heads, D head size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merino_edge.formats.architecture import Architecture, BlockSpec

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


def make_norm(a: Architecture, width: int) -> nn.Module:
    """LayerNorm (scale and shift) or RMSNorm (scale)."""
    if a.norm == "layernorm":
        return nn.LayerNorm(width, eps=a.norm_eps)
    return nn.RMSNorm(width, eps=a.norm_eps)


def rope_tables(n_positions: int, n_rotated: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary embedding, each [n_positions, n_rotated], float32.

    ``n_rotated`` is the head's width, or its rotated part (``Architecture.rotary_dim``). Pairs lie
    half of it apart (the "rotate half" convention of Hugging Face's Llama and GPT-NeoX), so the
    angles repeat in the second half. Computed in float64: at position 8192 the float32 product
    is off by up to 5e-4.
    """
    frequencies = base ** -(torch.arange(0, n_rotated, 2, dtype=torch.float64) / n_rotated)
    angles = torch.outer(torch.arange(n_positions, dtype=torch.float64), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().float(), angles.sin().float()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first R dimensions of x [B, T, H, D] by tables [T, R]; the rest passes."""
    n_rotated = cos.shape[-1]
    turning, rest = x[..., :n_rotated], x[..., n_rotated:]
    first, second = turning.chunk(2, dim=-1)
    rotated = torch.cat((-second, first), dim=-1)
    turned = turning * cos[:, None, :] + rotated * sin[:, None, :]
    return torch.cat((turned, rest), dim=-1) if rest.shape[-1] else turned


class FeedForward(nn.Module):
    """act(x W_up) W_down, or (act(x W_gate) * x W_up) W_down; gate and up are one matrix."""

    def __init__(self, a: Architecture, block: BlockSpec):
        super().__init__()
        d_up = block.d_ff * (2 if a.gated_ffn else 1)
        self.gated = a.gated_ffn
        self.activation = ACTIVATIONS[a.activation]
        self.up = nn.Linear(block.d_model, d_up, bias=a.ffn_bias)
        self.down = nn.Linear(block.d_ff, block.d_model, bias=a.ffn_bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, d_model] -> [B, T, d_model]."""
        hidden = self.up(x)
        if not self.gated:
            return self.down(self.activation(hidden))
        gate, up = hidden.chunk(2, dim=-1)
        return self.down(self.activation(gate) * up)
