"""The paper's three budgets: our proven architectures, and how much smaller they are than OPT-350M.

The one idea: a ratio says little without its convention, so each stands here under all of them.
The paper (arXiv 2403.07921) calls its 64M model 5.5 times smaller than OPT-350M, with 4.5 times
fewer FLOPs, and publishes neither its shape nor what was counted. So we count both models in the
same way: parameters as stored, embeddings included, against OPT-350M's real 331.2M and against
the 350M of its name; FLOPs of a prompt of 1024 tokens, once without the head and once with it.
The budgets themselves are what we remember of the paper's table, so a ratio of FLOPs near 4.5 tells
of the budget, not of the shape. And no ratio says how well either model writes.

Each budget is solved exactly, with a certificate, and by evolution with several seeds, so one sees
how far a search without a proof would have been off. Times are those of one core; take them on a
machine that does nothing else.

Example:
  OMP_NUM_THREADS=1 python benchmarks/search/presets.py
  OMP_NUM_THREADS=1 python benchmarks/search/presets.py --budgets 64M/160G --seeds 3
"""

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from known_models import KNOWN_MODELS
from presets_report import SCHEMA, Evolution, Ours, Report, Size, markdown
from reports import budget_name, new_parser, provenance, results_folder, run_script

from merino_edge.cli.options import count, positive_int
from merino_edge.cli.output import Progress
from merino_edge.core import counting, targets
from merino_edge.core import space as spaces
from merino_edge.core.budget import Budget
from merino_edge.errors import UsageError
from merino_edge.formats.architecture import Architecture
from merino_edge.search.config import SearchConfig
from merino_edge.search.result import SearchResult
from merino_edge.search.run import run_search

SPACE = spaces.get("paper")
TARGET = targets.get("host")
BUDGETS = ("52M/60G", "61M/110G", "64M/160G")
REFERENCE = "OPT-350M"


def solve(budget: Budget, config: SearchConfig, n_seeds: int, progress: Progress) -> Ours:
    """Solve one budget exactly, and by evolution with each of the seeds."""
    exact = _search(budget, SearchConfig(method="exact"), progress)
    assert exact.certificate is not None, "the exact method proves"
    runs = [_evolve(budget, config, seed, exact, progress) for seed in range(n_seeds)]
    a, best = exact.best.architecture, exact.best.entropy
    progress.done(
        f"{budget_name(budget)}: {exact.elapsed_s:.3g} s exact, then {n_seeds} evolutions"
    )
    return Ours(
        budget=budget,
        architecture=a,
        arch_id=a.arch_id,
        size=size_of(a, counting.n_params(a)),
        n_params_unshared=counting.n_params_executed(a),
        n_layers=a.n_layers,
        entropy=best.total,
        effectiveness=best.effectiveness,
        certificate=exact.certificate,
        exact_s=_taken(exact.elapsed_s),
        proof_s=_taken(exact.certificate_s),
        evolutions=tuple(runs),
    )


def _evolve(
    budget: Budget, config: SearchConfig, seed: int, exact: SearchResult, progress: Progress
) -> Evolution:
    result = _search(budget, SearchConfig(**{**vars(config), "seed": seed}), progress)
    total, optimum = result.best.entropy.total, exact.best.entropy.total
    arch_id = result.best.architecture.arch_id
    return Evolution(seed, arch_id, total, 1.0 - total / optimum, _taken(result.elapsed_s))


def _taken(seconds: float | None) -> float:
    assert seconds is not None, "only a result that was read from a file has no times"
    return seconds


def _search(budget: Budget, config: SearchConfig, progress: Progress) -> SearchResult:
    def tell(moment: object) -> None:
        progress.update(f"{budget_name(budget)}, {config.method}, seed {config.seed}: {moment}")

    return run_search(SPACE, budget, config, TARGET, tell)


def size_of(a: Architecture, n_params: int) -> Size:
    """Count a decoder under both conventions of FLOPs."""
    return Size(
        n_params=n_params,
        body_flops=counting.prefill_flops(a),
        body_and_head_flops=counting.prefill_flops(a, n_logits=counting.PAPER_SEQ_LEN),
    )


def parse_budget(text: str) -> Budget:
    """``64M/160G``: parameters, and FLOPs of 1024 tokens without the head.

    Raises:
        UsageError: Not two sizes.
    """
    max_params, slash, max_flops = text.partition("/")
    if not slash:
        raise UsageError(f"'{text}' is not a budget; write 64M/160G.")
    return Budget(max_params=count(max_params), max_flops=count(max_flops))


def make_report(options: argparse.Namespace) -> Report:
    """Solve all budgets on one core.

    Raises:
        UsageError: A budget is not written as one.
        BudgetError: Nothing keeps one of them.
    """
    progress = Progress("presets")
    budgets = [parse_budget(text) for text in options.budgets]
    found = provenance(("numpy",))
    config = SearchConfig(
        candidates=options.candidates,
        population=min(SearchConfig().population, options.candidates),
        certify=False,
    )
    ours = tuple(solve(budget, config, options.seeds, progress) for budget in budgets)
    model = KNOWN_MODELS[REFERENCE]
    reference = size_of(model.architecture, model.n_params)
    return Report(found, SPACE.name, config.candidates, config.population, reference, ours)


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__, results_folder(__file__) / "presets.json")
    add = parser.add_argument
    add("--budgets", nargs="+", default=BUDGETS, metavar="P/F", help="as 64M/160G (the paper's)")
    add("--candidates", type=count, default=500_000, metavar="N", help="of a seed (500k)")
    add("--seeds", type=positive_int, default=5, metavar="N", help="of evolution (5)")
    return parser


if __name__ == "__main__":
    run_script(_parser(), SCHEMA, make_report, markdown)
