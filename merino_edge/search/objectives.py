"""What a search can maximise: the entropy, and cheap baselines to hold it against.

The one idea: an objective is a function of genomes and tables, and the larger its value the
better the member is thought to be. All but the entropy are controls: if parameters or depth find
models as good, the entropy earns nothing. ``per_member`` lifts a function of one architecture,
such as a zero-shot score that needs a torch model, into the same shape.
"""

from collections.abc import Callable

import numpy as np

from merino_edge.core import counting
from merino_edge.core.cost import PartCost
from merino_edge.core.space import DEPTH, RATIO, WIDTH
from merino_edge.formats.architecture import Architecture
from merino_edge.search.operators import genome_keys
from merino_edge.search.tables import Tables

Objective = Callable[[np.ndarray, Tables], np.ndarray]

ENTROPY = "entropy"
_N_PARAMS = PartCost._fields.index("n_params")


def entropy(genomes: np.ndarray, tables: Tables) -> np.ndarray:
    """Entropy times effectiveness, in nats."""
    return tables.entropies(genomes).total


def decoder_params(genomes: np.ndarray, tables: Tables) -> np.ndarray:
    """Parameters of all layers without embeddings (LiteTransformerSearch, arXiv 2203.02094).

    There every layer has weights of its own, so a shared block counts as often as it is applied.
    """
    width, ratio = genomes[:, :, WIDTH], genomes[:, :, RATIO]
    layer = tables.block[width, ratio, 0, _N_PARAMS]
    if tables.depth[0] > 1:  # the first choice is deeper than one application: take off its norms
        layer = layer - (tables.depth[0] - 1) * _norm_params(tables)[width]
    total: np.ndarray = (tables.depth[genomes[:, :, DEPTH]] * layer).sum(axis=1)
    return total


def _norm_params(tables: Tables) -> np.ndarray:
    space = tables.space
    blocks = [space.architecture((space.block(w, space.ffn_ratios[0], 2),)) for w in space.d_models]
    once = [a._replace(blocks=(a.blocks[0]._replace(depth=1),)) for a in blocks]
    pairs = zip(blocks, once, strict=True)
    return np.array([counting.n_params(two) - counting.n_params(one) for two, one in pairs])


def params(genomes: np.ndarray, tables: Tables) -> np.ndarray:
    """Stored parameters, shared ones once, embeddings included."""
    return tables.costs(genomes).n_params


def flops(genomes: np.ndarray, tables: Tables) -> np.ndarray:
    """FLOPs of a prompt, body only."""
    return tables.costs(genomes).prefill_flops


def depth(genomes: np.ndarray, tables: Tables) -> np.ndarray:
    """Layers, as often as they are applied."""
    layers: np.ndarray = tables.depth[genomes[:, :, DEPTH]].sum(axis=1, dtype=np.float64)
    return layers


def chance(genomes: np.ndarray, tables: Tables) -> np.ndarray:
    """A number in [0, 1) that depends on the genome and on nothing that matters."""
    mixed = genome_keys(genomes, tables.space) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return np.asarray((mixed >> np.uint64(11)) / 2.0**53)


def per_member(score: Callable[[Architecture], float]) -> Objective:
    """An objective from a function of one architecture."""

    def objective(genomes: np.ndarray, tables: Tables) -> np.ndarray:
        return np.array([score(tables.space.decode(genome)) for genome in genomes])

    return objective


OBJECTIVES: dict[str, Objective] = {
    ENTROPY: entropy,
    "decoder_params": decoder_params,
    "params": params,
    "flops": flops,
    "depth": depth,
    "random": chance,
}
