"""Everything that could have predicted the losses of the study, as functions of an architecture.

The one idea: a proxy is a number per architecture, and a larger one promises a lower loss. The
entropy stands among its variants and among controls that know less (a count) or more (a model's
gradients). What the entropy does not see, the narrow ends of a decoder, is tried out here before
it becomes anybody's default.
"""

import hashlib
from collections.abc import Callable
from math import exp, log

from merino_edge.core import counting
from merino_edge.core.entropy import EntropyConfig, depth_width_ratio, network_entropy
from merino_edge.formats.architecture import Architecture

Proxy = Callable[[Architecture], float]


def entropy(config: EntropyConfig) -> Proxy:
    """Entropy times effectiveness."""
    return lambda a: network_entropy(a, config).total


def mean_width(a: Architecture) -> float:
    """Geometric mean over the layers."""
    log_sum = sum(block.depth * log(block.d_model) for block in a.blocks)
    return exp(log_sum / a.n_layers)


def narrowed(a: Architecture, most_growth: float = 1.0) -> Architecture:
    """The decoder with no block wider than so many times the first, ratios kept."""
    limit = a.blocks[0].d_model * most_growth
    blocks = []
    for block in a.blocks:
        width = min(block.d_model, round(limit))
        d_ff = max(1, round(block.d_ff * width / block.d_model))
        n_head = max(1, round(block.n_head * width / block.d_model))
        blocks.append(block._replace(d_model=width, n_head=n_head, n_kv_head=n_head, d_ff=d_ff))
    return a._replace(blocks=tuple(blocks))


def decoder_params(a: Architecture) -> float:
    """As LiteTransformerSearch counts: every layer by itself, no embeddings."""
    blocks = tuple(b._replace(depth=1) for b in a.blocks for _ in range(b.depth))
    alone = a._replace(blocks=blocks)
    return sum(counting.block_matrix_params(alone, index) for index in range(len(blocks)))


def chance(a: Architecture) -> float:
    """A number that means nothing."""
    return int(hashlib.sha256(a.arch_id.encode("ascii")).hexdigest()[:8], 16)


def all_proxies(seq_len: int) -> dict[str, Proxy]:
    """By name, cheap ones only; FLOPs are those of a prompt of ``seq_len`` tokens."""
    proxies: dict[str, Proxy] = {
        "entropy (gamma0 1/16)": entropy(EntropyConfig()),
        "entropy, no effectiveness": entropy(EntropyConfig(form="off")),
        "entropy, hard bound 1/16": entropy(EntropyConfig(form="hard")),
    }
    for parts in (4, 8, 32):
        config = EntropyConfig(gamma0=1 / parts)
        proxies[f"entropy (gamma0 1/{parts})"] = entropy(config)
    for parts in (16, 8, 4):
        config = EntropyConfig(gamma0=1 / parts)
        proxies[f"entropy at the first width (gamma0 1/{parts})"] = lambda a, config=config: (
            network_entropy(narrowed(a), config).total
        )
    return proxies | {
        "decoder parameters": decoder_params,
        "parameters": counting.n_params,
        "FLOPs": lambda a: counting.prefill_flops(a, seq_len),
        "depth": lambda a: a.n_layers,
        "shallowness": lambda a: -a.n_layers,
        "mean width": mean_width,
        "first width": lambda a: a.blocks[0].d_model,
        "random": chance,
    }


def depth_to_width(a: Architecture) -> float:
    """Gamma."""
    return depth_width_ratio([b.d_model for b in a.blocks], [b.depth for b in a.blocks])
