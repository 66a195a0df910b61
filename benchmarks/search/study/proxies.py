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
        "entropy (gamma0 1/16)": entropy(EntropyConfig(most_growth=None)),
        "entropy, no effectiveness": entropy(EntropyConfig(form="off", most_growth=None)),
        "entropy, hard bound 1/16": entropy(EntropyConfig(form="hard", most_growth=None)),
    }
    for parts in (4, 8, 32):
        config = EntropyConfig(gamma0=1 / parts, most_growth=None)
        proxies[f"entropy (gamma0 1/{parts})"] = entropy(config)
    for growth in (1.0, 1.5, 2.0):
        for parts in (16, 8, 4):
            config = EntropyConfig(gamma0=1 / parts, most_growth=growth)
            proxies[f"entropy (gamma0 1/{parts}), growth to {growth:g}"] = entropy(config)
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
