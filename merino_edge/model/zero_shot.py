"""DSS and SynFlow: scores of an untrained decoder that need its weights, to compare with entropy.

The one idea: replace every weight by its magnitude, send ones through, sum what comes out (R),
and ask with one backward pass how much each matrix W contributes: W * dR/dW. SynFlow (Tanaka et
al. 2020, arXiv 2006.05467) sums this over all entries. DSS (TF-TAS, CVPR 2022) does the same for
the feed-forward, and for attention takes nuclear norm(dR/dW) * nuclear norm(W), which grows with
the number of directions that a matrix really has.

As it stands a decoder is deaf to ones: a LayerNorm makes zeros of equal numbers. So, as SynFlow
requires, the pass goes through the *linearised* network. A norm is the identity (its fresh scale
is 1), so is an activation (as GELU, SiLU and ReLU nearly are for large positive numbers), and a
gate counts as a second path beside the one it gates: their product would square R in every layer.
Equal tokens get their own value from softmax attention, whatever queries and keys say; so one
token is enough, and queries and keys enter DSS (by the norm of W) but add zero to SynFlow.

Scores are natural logarithms, since only ranks matter: the largest member of the space `paper`
reaches 10^252, and fifteen layers more would leave float64. Embeddings, positions, norms, biases
and the head are left out. Nothing here knows data, tokens or a budget.
"""

from collections.abc import Callable, Iterable, Iterator
from math import log
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merino_edge.formats.architecture import Architecture
from merino_edge.model.attention import Attention
from merino_edge.model.layers import FeedForward
from merino_edge.model.transformer import MerinoLM, SharedBlock, new_model

Term = Callable[[nn.Parameter], Tensor]


def dss(a: Architecture, seed: int = 0) -> float:
    """Logarithm of the DSS indicator; larger is better.

    Queries, keys and values are one matrix here, and one linear layer in the original. A joint
    between two widths is neither attention nor feed-forward, and counts like the latter.

    Args:
        a: The decoder; its vocabulary and context do not matter.
        seed: Of the fresh weights; torch's own generator stays as it is.
    """
    return log_score(fresh_body(a, seed), attention_term=nuclear_norms)


def synflow(a: Architecture, seed: int = 0) -> float:
    """Logarithm of SynFlow over all matrices of the body, joints included; larger is better.

    Args:
        a: The decoder; its vocabulary and context do not matter.
        seed: Of the fresh weights; torch's own generator stays as it is.
    """
    return log_score(fresh_body(a, seed), attention_term=flow)


def fresh_body(a: Architecture, seed: int) -> MerinoLM:
    """A new model with |W| for every parameter W.

    Its embedding tables have one row: the scores do not use them, and at a vocabulary of 50,257
    they would be half of all the numbers to draw.
    """
    model = new_model(a.replace(vocab_size=1, max_seq_len=1, tie_embeddings=True), seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    return model


def log_score(body: MerinoLM, attention_term: Term) -> float:
    """Logarithm of the sum of all matrices' terms, after one forward and one backward pass.

    R is the sum of the last hidden state, not of the logits: with logits the head's own term
    would be exactly R, which each application of a feed-forward adds already but for a few
    percent, and the head can be as large as the body. A shared matrix gathers the gradients of
    its ``depth`` applications and has one term.

    Args:
        body: A model with no negative parameter and no gradients yet; they are left in it.
        attention_term: The term of an attention matrix; every other matrix has ``flow``.
    """
    total, log_scale = _forward(body)
    total.backward()
    with torch.no_grad():
        terms = [
            attention_term(weight) if in_attention else flow(weight)
            for weight, in_attention in _matrices(body)
        ]
    return log(sum(float(term) for term in terms)) + log_scale


def flow(weight: nn.Parameter) -> Tensor:
    """SynFlow's term: sum |W * dR/dW|."""
    assert weight.grad is not None, "every matrix lies on the way to R"
    return (weight * weight.grad).abs().sum()


def nuclear_norms(weight: nn.Parameter) -> Tensor:
    """DSS's term for attention: the nuclear norms (sums of singular values) of dR/dW and of W."""
    assert weight.grad is not None, "every matrix lies on the way to R"
    return torch.linalg.matrix_norm(weight.grad, "nuc") * torch.linalg.matrix_norm(weight, "nuc")


def _matrices(body: MerinoLM) -> Iterator[tuple[nn.Parameter, bool]]:
    """Every stored matrix of the blocks, and whether it belongs to attention."""
    for name, parameter in body.blocks.named_parameters():
        if parameter.dim() == 2:
            yield parameter, ".attn." in name


def _forward(body: MerinoLM) -> tuple[Tensor, float]:
    """(R / s, log s), where s is the product of what the state is divided by after each layer.

    R grows up to 10^4-fold in a layer of width 1024. All is linear in the state, so a constant
    that is divided out may be put back at the end, and float32 is enough: where we compared, the
    logarithm was within 1e-5 of float64's, while another seed moves it by up to 0.1.
    """
    x, log_scale = torch.ones(body.architecture.embed_dim), 0.0
    for block in cast(Iterable[SharedBlock], body.blocks):
        if block.joint is not None:
            x = block.joint(x)
        for _ in block.norms:
            x = x + _attend(block.attn, x)
            x = x + _feed(block.ffn, x)
            scale = float(x.detach().max())
            x, log_scale = x / scale, log_scale + log(scale)
    return x.sum(), log_scale


def _attend(attention: Attention, x: Tensor) -> Tensor:
    """x [d_model] -> the same: among its equals a token gets its own value.

    Not through a real softmax: the zero gradient of queries and keys comes out as a rounding error
    times large keys, in float32 twenty times the values' own term at width 8 and six layers.
    """
    n_kv, head_dim = attention.block.n_kv_head, attention.block.head_dim
    value = F.linear(x, attention.qkv.weight[-n_kv * head_dim :]).view(n_kv, head_dim)
    group = attention.block.n_head // n_kv
    return F.linear(value.repeat_interleave(group, dim=0).flatten(), attention.out.weight)


def _feed(ffn: FeedForward, x: Tensor) -> Tensor:
    """x [d_model] -> the same; the two halves of a gated ``up`` are paths side by side."""
    hidden = F.linear(x, ffn.up.weight)
    if ffn.gated:
        hidden = hidden.view(2, -1).sum(dim=0)
    return F.linear(hidden, ffn.down.weight)
