"""Why this one: what its parts contribute, and what is wrong with its neighbours.

The one idea: a winner convinces when one can see that every small change either breaks a limit or
loses entropy. So each member that differs in one gene by one step is priced and scored in full.
"""

import numpy as np

from merino_edge.core.cost import PartCost, Pricing
from merino_edge.core.space import DEPTH, RATIO, WIDTH
from merino_edge.formats.architecture import Architecture
from merino_edge.search.candidate import Candidate
from merino_edge.search.operators import canonical
from merino_edge.search.problem import Problem
from merino_edge.search.result import Neighbour, PartShare

_GENES = {WIDTH: "width", RATIO: "feed-forward ratio", DEPTH: "depth"}


def neighbours(genome: np.ndarray, problem: Problem) -> tuple[Neighbour, ...]:
    """Every member one step away in one gene, the best objective first.

    Args:
        genome: The winner, shape (n_blocks, 3).
        problem: Where it won.
    """
    space = problem.space
    choices = (space.d_models, space.ffn_ratios, space.depths)
    found: dict[bytes, Neighbour] = {}
    for block, gene in np.ndindex(*genome.shape):
        for step in (-1, 1):
            value = int(genome[block, gene]) + step
            if not 0 <= value < len(choices[gene]):
                continue
            other = genome.copy()
            other[block, gene] = value
            if not space.monotone or (np.diff(other[:, WIDTH]) >= 0).all():
                before, after = choices[gene][genome[block, gene]], choices[gene][value]
                change = f"block {block + 1}: {_GENES[gene]} {before:g} to {after:g}"
                key = canonical(other[None], space).tobytes()
                found.setdefault(key, Neighbour(change, problem.candidate(other)))
    return tuple(sorted(found.values(), key=lambda n: -n.candidate.entropy.total))


def part_shares(best: Candidate, pricing: Pricing) -> tuple[PartShare, ...]:
    """What blocks, joints and ends contribute; the shares add up to the whole."""
    a = best.architecture
    parts = {}
    for index, (block, entropy) in enumerate(zip(a.blocks, best.entropy.per_block, strict=True)):
        first, again = (np.array(part) for part in pricing.block(a, index))
        parts[f"block {index + 1}"] = entropy, first + (block.depth - 1) * again
    if a.joints():
        parts["joints"] = 0.0, _joints(a, pricing)
    parts["embedding and head"] = 0.0, np.array(pricing.ends(a))
    rows = pricing.rates().get("latency_ms")
    binding = None
    if rows is not None:
        whole = np.sum([cost for _, cost in parts.values()], axis=0)
        binding = rows[int(np.argmax(rows @ whole))]
    return tuple(_share(name, *part, binding) for name, part in parts.items())


def _joints(a: Architecture, pricing: Pricing) -> np.ndarray:
    parts = [pricing.joint(d_in, d_out) for d_in, d_out in a.joints().values()]
    total: np.ndarray = np.sum(np.array(parts), axis=0)
    return total


def _share(name: str, entropy: float, cost: np.ndarray, latency: np.ndarray | None) -> PartShare:
    fields = dict(zip(PartCost._fields, cost.tolist(), strict=True))
    return PartShare(
        name=name,
        entropy=entropy,
        n_params=round(fields["n_params"]),
        prefill_flops=round(fields["prefill_flops"]),
        latency_ms=None if latency is None else float(cost @ latency),
    )
