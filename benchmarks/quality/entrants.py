"""Who takes part in the contest: seven decoders, each the best of its kind under one budget.

The one idea: a claim about an architecture is a claim about what else the same budget buys. So one
budget of stored parameters and one of FLOPs hold for all, each kind spends them as it would, and
what a kind leaves unused it leaves to its own harm. The one exception is the winner's shape with
every layer's weights its own: it is over the budget, and shows what sharing saved and cost.

Example:
  python benchmarks/quality/entrants.py
"""

import argparse
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from reports import new_parser, results_folder, run_script

from merino_edge.cli.output import human_count, table
from merino_edge.core import counting, targets
from merino_edge.core.budget import Budget
from merino_edge.core.space import SearchSpace
from merino_edge.errors import BudgetError
from merino_edge.formats.architecture import Architecture, BlockSpec, describe
from merino_edge.search.config import SearchConfig
from merino_edge.search.result import SearchResult
from merino_edge.search.run import run_search

SCHEMA = "merino-edge.contestants/1"
BUDGET = Budget(max_params=3_100_000, max_flops=14_000_000_000)  # FLOPs of 1024 tokens, body only
SPACE = SearchSpace(
    name="contest",
    n_blocks=4,
    d_models=tuple(range(96, 417, 32)),
    ffn_ratios=(1.0, 1.5, 2.0, 3.0, 4.0),
    depths=tuple(range(1, 9)),
    head_dim=32,
    vocab_size=4096,
    max_seq_len=256,
)
MOST_LAYERS = 12  # of what shares nothing
LTS_LAYERS = range(3, 11)  # arXiv 2203.02094, appendix: its own space
LTS_RATIOS = (2.0, 3.0, 4.0)
N_CANDIDATES = 200_000


class Contestant(NamedTuple):
    """One decoder of the contest.

    Attributes:
        name: For tables.
        origin: How it was chosen.
        architecture: The decoder.
        n_params: Stored; shared weights once.
        n_params_executed: As often as they are applied.
        prefill_flops: Of 1024 tokens, body only.
    """

    name: str
    origin: str
    architecture: Architecture
    n_params: int
    n_params_executed: int
    prefill_flops: int


class Contestants(NamedTuple):
    """All of them, and what they had to keep."""

    budget: Budget
    contestants: list[Contestant]


def contestants() -> list[Contestant]:
    """All seven; the same on every machine."""
    shared = _searched(SPACE).best.architecture
    found = [
        ("searched", "most entropy, blocks of shared layers", shared),
        ("searched, not shared", "the same shape, every layer its own weights", unshared(shared)),
        ("searched among unshared", "most entropy, no layer shared", _best_unshared()),
        ("GPT-2 style", "5 equal layers, d_ff = 4 d_model, GELU", uniform(192, 5)),
        ("OPT style", "7 equal layers, d_ff = 4 d_model, ReLU", uniform(160, 7, "relu")),
        ("LiteTransformerSearch", "most parameters in its layers, one width", _lite()),
        ("random", "one member that keeps the budget, by chance", _chosen("random")),
    ]
    return [_counted(*each) for each in found]


def unshared(a: Architecture) -> Architecture:
    """The same layers, each with weights of its own."""
    return a.replace(blocks=tuple(block._replace(depth=1) for _, _, block in a.layers()))


def uniform(
    d_model: int, n_layers: int, activation: str = "gelu", ratio: float = 4.0
) -> Architecture:
    """Equal layers."""
    n_head = d_model // SPACE.head_dim
    block = BlockSpec(d_model, n_head, n_head, round(ratio * d_model), 1)
    return Architecture(
        blocks=(block,) * n_layers,
        vocab_size=SPACE.vocab_size,
        max_seq_len=SPACE.max_seq_len,
        activation=activation,
    )


def _searched(space: SearchSpace) -> SearchResult:
    config = SearchConfig(candidates=N_CANDIDATES, n_seeds=3)
    return run_search(space, BUDGET, config, targets.get("host"))


def _best_unshared() -> Architecture:
    """Over every number of layers, for a space has blocks of one number."""
    results = []
    for n_layers in range(2, MOST_LAYERS + 1):
        try:
            results.append(_searched(replace(SPACE, n_blocks=n_layers, depths=(1,))))
        except BudgetError:  # so many layers keep no budget
            break
    return max(results, key=lambda result: result.best.entropy.total).best.architecture


def _lite() -> Architecture:
    """What has most parameters outside its embeddings among equal layers."""
    choices = [
        uniform(d_model, n_layers, ratio=ratio)
        for d_model, n_layers, ratio in product(SPACE.d_models, LTS_LAYERS, LTS_RATIOS)
    ]
    kept = [a for a in choices if _keeps_budget(a)]
    return max(kept, key=_layer_params)


def _layer_params(a: Architecture) -> int:
    return counting.n_params(a) - (a.vocab_size + a.max_seq_len) * a.embed_dim


def _keeps_budget(a: Architecture) -> bool:
    assert BUDGET.max_params is not None
    assert BUDGET.max_flops is not None
    fits = counting.n_params(a) <= BUDGET.max_params
    return fits and counting.prefill_flops(a) <= BUDGET.max_flops


def _chosen(objective: str) -> Architecture:
    config = SearchConfig(candidates=512, objective=objective)
    return run_search(SPACE, BUDGET, config, targets.get("host")).best.architecture


def _counted(name: str, origin: str, a: Architecture) -> Contestant:
    return Contestant(
        name,
        origin,
        a,
        counting.n_params(a),
        counting.n_params_executed(a),
        counting.prefill_flops(a),
    )


def make(options: argparse.Namespace) -> Contestants:
    """The report."""
    return Contestants(BUDGET, contestants())


def markdown(report: Contestants) -> str:
    """One row a contestant."""
    head = ("", "chosen as", "stored", "executed", "FLOPs of 1024 tokens", "layers")
    rows = [
        (
            c.name,
            c.origin,
            human_count(c.n_params),
            human_count(c.n_params_executed),
            human_count(c.prefill_flops),
            describe(c.architecture),
        )
        for c in report.contestants
    ]
    return table(head, rows)


if __name__ == "__main__":
    parser = new_parser(__doc__, results_folder(__file__) / "contestants.json")
    run_script(parser, SCHEMA, make, markdown)
