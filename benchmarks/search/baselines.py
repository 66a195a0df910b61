"""Entropy against other things to maximise: how long each search takes, and what it chooses.

The one idea: everything but the objective is the same. Same space, budget, seed, population and
number of candidates, one after the other on one core in one process, nothing proven. Entropy,
parameters, FLOPs and depth are look-ups in tables. DSS and SynFlow need the weights of each
candidate: a torch model, a forward and a backward pass. The paper (arXiv 2403.07921) claims 12
times less search time than an earlier zero-shot method; which one, we could not read.

Two numbers of candidates are compared. *Few* is as many as DSS can score in minutes; there the
entropy's time is mostly that of pricing the space, which makes the ratio look small. *Many* is
what our searches use; there DSS and SynFlow are predicted by proportion from the few, and the
report says so. All other times are measured; of the few over tables, the median of five searches.

Time on a machine that does nothing else: compare ``seconds`` with ``cpu_seconds`` in the report.

Example:
  OMP_NUM_THREADS=1 python benchmarks/search/baselines.py
  OMP_NUM_THREADS=1 python benchmarks/search/baselines.py --spaces tiny --candidates 500
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from baselines_report import (
    SCHEMA,
    Comparison,
    Effort,
    Report,
    Row,
    Setting,
    Timing,
    Winner,
    markdown,
)
from reports import new_parser, provenance, results_folder, run_script

from merino_edge.cli.options import count, natural_int, positive_int
from merino_edge.cli.output import Progress
from merino_edge.core import space as spaces
from merino_edge.core import targets
from merino_edge.core.budget import Budget
from merino_edge.formats.architecture import Architecture, describe
from merino_edge.model.zero_shot import dss, synflow
from merino_edge.search.config import SearchConfig
from merino_edge.search.objectives import ENTROPY, OBJECTIVES, per_member
from merino_edge.search.problem import pose
from merino_edge.search.result import SearchResult
from merino_edge.search.run import run_search

Score = Callable[[Architecture], float]
SCORES: dict[str, Score] = {"dss": dss, "synflow": synflow}
NAMES = (*OBJECTIVES, *SCORES)
TARGET = targets.get("host")
N_REPEATS = 5  # of few candidates over tables, which take a blink
_WARM_UP = 2  # candidates that nobody times: a first search also loads libraries

SETTINGS = {
    setting.space: setting
    for setting in (
        Setting("paper", Budget(max_params=64_000_000, max_flops=160_000_000_000), 200),
        Setting("tiny", TARGET.default_budget, 2000),
    )
}


def compare(setting: Setting, effort: Effort, progress: Progress) -> Comparison:
    """Search with every objective, the entropy first."""
    rows = [_row(name, setting, effort, progress) for name in NAMES]
    reference = rows[NAMES.index(ENTROPY)]
    return Comparison(
        setting,
        tuple(
            row._replace(
                few=_against(row.few, reference.few), many=_against(row.many, reference.many)
            )
            for row in rows
        ),
    )


def _against(timing: Timing, entropy: Timing) -> Timing:
    return timing._replace(times_entropy=timing.seconds / entropy.seconds)


def _row(name: str, setting: Setting, effort: Effort, progress: Progress) -> Row:
    def run(candidates: int, population: int) -> tuple[Timing, SearchResult]:
        config = _config(name, candidates, population, effort.seed)
        return timed_search(name, setting, config, progress)

    run(_WARM_UP, _WARM_UP)
    n_repeats = 1 if name in SCORES else N_REPEATS
    runs = [run(setting.few, effort.few_population) for _ in range(n_repeats)]
    few, few_winner = _median([timing for timing, _ in runs]), judge(runs[0][1], setting)
    progress.done(f"{setting.space}, {name}: {few.seconds:.3g} s for {few.candidates:,} candidates")
    if name in SCORES:
        seconds = few.seconds * effort.many / few.candidates
        return Row(name, few, few_winner, Timing(effort.many, seconds, None, False), None)
    many, result = run(effort.many, effort.many_population)
    return Row(name, few, few_winner, many, judge(result, setting))


def _median(timings: list[Timing]) -> Timing:
    """The one with the median time; their number is odd."""
    middle = median(timing.seconds for timing in timings)
    return next(timing for timing in timings if timing.seconds == middle)


def _config(name: str, candidates: int, population: int, seed: int) -> SearchConfig:
    return SearchConfig(
        candidates=candidates,
        population=population,
        seed=seed,
        objective=ENTROPY if name in SCORES else name,
        certify=False,
    )


def timed_search(
    name: str, setting: Setting, config: SearchConfig, progress: Progress
) -> tuple[Timing, SearchResult]:
    """One search, as a user would run it but for the proof."""

    def tell(text: object) -> None:
        progress.update(f"{setting.space}, {name}: {text}")

    score = SCORES.get(name)
    objective = per_member(_telling(score, config.candidates, tell)) if score else None
    space = spaces.get(setting.space)
    wall, cpu = time.perf_counter(), time.process_time()
    result = run_search(space, setting.budget, config, TARGET, tell, objective=objective)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Timing(config.candidates, wall, cpu, measured=True), result


def _telling(score: Score, of: int, tell: Callable[[str], None]) -> Score:
    """The same score; a generation of it can take a minute, so it says how far it is."""
    n_done = 0

    def told(a: Architecture) -> float:
        nonlocal n_done
        n_done += 1
        tell(f"{n_done:,} of {of:,} candidates")
        return score(a)

    return told


def judge(result: SearchResult, setting: Setting) -> Winner:
    """Hold a winner against all objectives."""
    a, cost = result.best.architecture, result.best.cost
    space = spaces.get(setting.space)
    (problem,) = pose(space, setting.budget, SearchConfig(), TARGET)
    genomes = space.encode(a)[np.newaxis]
    values = {name: float(f(genomes, problem.tables)[0]) for name, f in OBJECTIVES.items()}
    values.update((name, score(a)) for name, score in SCORES.items())
    return Winner(a.arch_id, describe(a), a.n_layers, cost.n_params, cost.prefill_flops, values)


def make_report(options: argparse.Namespace) -> Report:
    """All comparisons that were asked for, on one core.

    Raises:
        SpecError: Fewer candidates than survivors.
    """
    progress = Progress("baselines")
    torch.set_num_threads(1)
    found = provenance(("numpy", "torch"))
    many_population = min(SearchConfig().population, options.many)
    effort = Effort(options.seed, options.population, options.many, many_population)
    settings = [SETTINGS[name] for name in options.spaces]
    settings = [setting._replace(few=options.candidates or setting.few) for setting in settings]
    comparisons = tuple(compare(setting, effort, progress) for setting in settings)
    return Report(found, torch.get_num_threads(), effort, comparisons)


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__, results_folder(__file__) / "baselines.json")
    add = parser.add_argument
    add("--spaces", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="(all)")
    add("--candidates", type=count, metavar="N", help="the few (paper: 200, tiny: 2000)")
    add("--many", type=count, default=500_000, metavar="N", help="of a full search (500k)")
    add("--population", type=positive_int, default=64, metavar="N", help="of the few (64)")
    add("--seed", type=natural_int, default=0, metavar="N", help="of all searches (0)")
    return parser


if __name__ == "__main__":
    run_script(_parser(), SCHEMA, make_report, markdown)
