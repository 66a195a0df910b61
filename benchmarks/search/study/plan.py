"""Which decoders the study trains: drawn once, by seed, and kept as ``plan.json``.

The one idea: entropy grows with parameters and with FLOPs, so a raw correlation flatters it. The
members are therefore drawn in *bands*: within a band all have the same FLOPs (or the same stored
parameters) to 4 %, and are as unlike in shape as the space allows. Beside them stand the twins
and winners that the ablations need.

The first trainings showed how much a narrow first block costs, which the entropy does not see. So
there are bands of *even* members too, whose widths grow by half at most, and members with *ends*
(embedding and head) of another width than their first block; both were added then. What is
trained first is half of the bands and the even ones, then the ablations, then the other half.

Example:
  python benchmarks/search/study/plan.py
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "common"))  # where ``reports`` lies

from reports import new_parser, results_folder

from merino_edge.core import targets
from merino_edge.core.budget import Budget
from merino_edge.core.cost import Pricing, WorkPoint
from merino_edge.core.entropy import EntropyConfig
from merino_edge.core.space import DEPTH, RATIO, WIDTH, SearchSpace
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture
from merino_edge.search.candidate import score
from merino_edge.search.config import SearchConfig
from merino_edge.search.evolution import Evolution
from merino_edge.search.tables import Tables

SCHEMA = "merino-edge.study-plan/1"
RESULTS = results_folder(__file__)
SEED = 0
CONTEXT = 128
SPACE = SearchSpace(
    name="study",
    n_blocks=3,
    d_models=tuple(range(32, 257, 32)),
    ffn_ratios=(0.5, 1.0, 1.5, 2.0, 3.0, 4.0),
    depths=tuple(range(1, 9)),
    head_dim=32,
    vocab_size=1024,
    max_seq_len=CONTEXT,
)
AT = WorkPoint(prompt_len=CONTEXT, context_len=CONTEXT)
TARGET = targets.get("host")

TOLERANCE = 0.04  # half the width of a band, relative
FLOPS_BANDS = (2.5e7, 6e7, 1.4e8, 3.2e8)  # of a prompt of 128 tokens, body
PARAMS_BANDS = (1.2e5, 2.2e5, 4e5, 7.5e5)  # stored
MOST_FLOPS = 3.5e8  # so that a run takes minutes
EVEN_BANDS = (("flops", 6e7), ("flops", 1.4e8), ("params", 4e5))
MOST_GROWTH = 1.5  # of the last width over the first, in an even member
PER_BAND = 8
N_DRAWN = 400_000

ABLATION_BUDGETS = (Budget(max_flops=80_000_000), Budget(max_flops=200_000_000))
PLAIN = EntropyConfig(most_growth=None)  # as it was when the plan was drawn
GAMMAS = {
    "gamma factor 1/16": PLAIN,
    "gamma factor 1/8": replace(PLAIN, gamma0=1 / 8),
    "gamma factor 1/4": replace(PLAIN, gamma0=1 / 4),
    "gamma factor 1/32": replace(PLAIN, gamma0=1 / 32),
    "gamma hard 1/16": replace(PLAIN, form="hard"),
    "gamma off": replace(PLAIN, form="off"),
}
RATIO_FLOORS = (0.5, 1.0, 2.0, 3.0, 4.0)
N_TWINS = 8
N_ENDS = 4
NARROW_END = 32
LEAST_GROWTH = 4.0  # of a member that gets wide ends
N_REPEATED = 3


class PlannedRun(NamedTuple):
    """One training.

    Attributes:
        group: What it is for: a band, "unshared twin", an ablation, "repeat".
        of: arch_id of the member that it is a twin or repeat of; "" otherwise.
        seed: Of weights and batches.
        architecture: The decoder.
    """

    group: str
    of: str
    seed: int
    architecture: Architecture


class Plan(NamedTuple):
    """All of them, in the order in which they are trained."""

    seed: int
    space: SearchSpace
    runs: tuple[PlannedRun, ...]


def make_plan() -> Plan:
    """The plan of the study; a function of nothing but this file."""
    rng = np.random.default_rng(SEED)
    any_bands = [("flops", centre) for centre in FLOPS_BANDS]
    any_bands += [("params", centre) for centre in PARAMS_BANDS]
    members = _members(any_bands, np.inf, rng)
    even = _members(EVEN_BANDS, MOST_GROWTH, rng)
    half = len(members) // 2
    ends = _ends(members[:half], even)
    extra = [*_winners(), *ends, *_repeats(members), *_twins(members)]
    return Plan(SEED, SPACE, (*members[:half], *even, *extra, *members[half:]))


def _members(
    bands: Sequence[tuple[str, float]], most_growth: float, rng: np.random.Generator
) -> list[PlannedRun]:
    """Members of each band, the first of every band first."""
    runs = [list(band) for band in _bands(bands, most_growth, rng)]
    return [run for group in zip(*runs, strict=True) for run in group]


def _bands(
    bands: Sequence[tuple[str, float]], most_growth: float, rng: np.random.Generator
) -> Iterator[Iterator[PlannedRun]]:
    tables = Tables.build(SPACE, Pricing.by_roofline(TARGET, AT), PLAIN)
    genomes = SPACE.sample(rng, N_DRAWN)
    costs = tables.costs(genomes)
    values = {"flops": costs.prefill_flops, "params": costs.n_params}
    width = tables.width[genomes[:, :, WIDTH]]
    able = (costs.prefill_flops <= MOST_FLOPS) & (width[:, -1] <= most_growth * width[:, 0])
    even = "even " if np.isfinite(most_growth) else ""
    for name, centre in bands:
        inside = able & (np.abs(values[name] / centre - 1.0) <= TOLERANCE)
        chosen = _far_apart(genomes[inside], rng, PER_BAND)
        yield (_run(f"{even}{name} {centre:.2g}", genome) for genome in chosen)


def _far_apart(genomes: np.ndarray, rng: np.random.Generator, n: int) -> np.ndarray:
    """n genomes, each as far as possible from those before it, in layers, width and ratio."""
    features = _shape_features(genomes)
    features /= features.std(axis=0)
    chosen = [int(rng.integers(len(genomes)))]
    nearest = np.full(len(genomes), np.inf)
    while len(chosen) < n:
        distance = ((features - features[chosen[-1]]) ** 2).sum(axis=1)
        nearest = np.minimum(nearest, distance)
        chosen.append(int(nearest.argmax()))
    return genomes[chosen]


def _shape_features(genomes: np.ndarray) -> np.ndarray:
    """(n, 4): logarithms of layers, mean width and mean ratio, and how much widths grow."""
    depth = np.array(SPACE.depths)[genomes[:, :, DEPTH]]
    width = np.log(np.array(SPACE.d_models))[genomes[:, :, WIDTH]]
    ratio = np.log(np.array(SPACE.ffn_ratios))[genomes[:, :, RATIO]]
    layers = depth.sum(axis=1)
    means = [(depth * gene).sum(axis=1) / layers for gene in (width, ratio)]
    return np.stack([np.log(layers), *means, width[:, -1] - width[:, 0]], axis=1)


def _run(group: str, genome: np.ndarray) -> PlannedRun:
    return PlannedRun(group, "", SEED, SPACE.decode(genome))


def _twins(members: list[PlannedRun]) -> Iterator[PlannedRun]:
    """The members that share most, with a set of weights for every layer."""
    spread = sorted(members, key=lambda run: run.architecture.n_layers)
    shared = [run.architecture for run in spread if run.architecture.n_layers > 4]
    for a in shared[:: max(1, len(shared) // N_TWINS)][:N_TWINS]:
        blocks = tuple(b._replace(depth=1) for b in a.blocks for _ in range(b.depth))
        yield PlannedRun("unshared twin", a.arch_id, SEED, a._replace(blocks=blocks))


def _winners() -> Iterator[PlannedRun]:
    """What the search chooses under other objectives and in other spaces."""
    for budget in ABLATION_BUDGETS:
        for name, entropy in GAMMAS.items():
            yield _run(f"{name} at {budget.max_flops:.2g}", _search(SPACE, budget, entropy))
        for floor in RATIO_FLOORS:
            ratios = tuple(ratio for ratio in SPACE.ffn_ratios if ratio >= floor)
            space = SPACE.replace(ffn_ratios=ratios)
            genome = _search(space, budget, PLAIN)
            architecture = space.decode(genome)
            group = f"ratio from {floor:g} at {budget.max_flops:.2g}"
            yield PlannedRun(group, "", SEED, architecture)


def _search(space: SearchSpace, budget: Budget, entropy: EntropyConfig) -> np.ndarray:
    tables = Tables.build(space, Pricing.by_roofline(TARGET, AT), entropy)
    evolution = Evolution(space, SearchConfig(candidates=200_000, entropy=entropy))
    while not evolution.done:
        genomes = evolution.ask()
        evolution.tell(genomes, score(genomes, tables, budget))
    return evolution.survivors.rows.genomes[0]


def _ends(members: list[PlannedRun], even: list[PlannedRun]) -> Iterator[PlannedRun]:
    """Growing members with ends as wide as their last block, even ones with narrow ends."""
    growing = [r for r in members if _growth(r.architecture) >= LEAST_GROWTH]
    wide = [r for r in even if r.architecture.blocks[0].d_model >= 3 * NARROW_END]
    for run in growing[:N_ENDS]:
        a = run.architecture
        yield PlannedRun("wide ends", a.arch_id, SEED, a._replace(d_embed=a.blocks[-1].d_model))
    for run in wide[:N_ENDS]:
        a = run.architecture
        yield PlannedRun("narrow ends", a.arch_id, SEED, a._replace(d_embed=NARROW_END))


def _growth(a: Architecture) -> float:
    return a.blocks[-1].d_model / a.blocks[0].d_model


def _repeats(members: list[PlannedRun]) -> Iterator[PlannedRun]:
    """Other seeds, for the noise of one training."""
    for run in members[:: len(members) // N_REPEATED][:N_REPEATED]:
        for seed in (SEED + 1, SEED + 2):
            yield run._replace(group="repeat", of=run.architecture.arch_id, seed=seed)


def main() -> None:
    """Draw the plan and write it."""
    options = new_parser(__doc__, RESULTS / "plan.json").parse_args()
    plan = make_plan()
    jsonio.write_record(options.output, SCHEMA, plan)
    print(f"{len(plan.runs)} runs written to {options.output}")


if __name__ == "__main__":
    main()
