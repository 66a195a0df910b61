"""Does a confirmed model keep its budget? Ten budgets from tight to loose, several seeds.

The one idea: a promise is tested by somebody else, later. Each budget is searched with a table of
measured latencies and confirmed on this machine (``merino-edge search --confirm``); when all are
done, every confirmed model is timed again, in another order, and that second time counts.

Example:
  merino-edge profile --target host --precision int4 --space tiny --threads 1 -o table.json
  python benchmarks/latency/confirm_study.py table.json
"""

import argparse
import random
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from confirm_report import SCHEMA, Report, Trial, markdown
from reports import new_parser, provenance, results_folder, run_script

from merino_edge.cli.options import positive_int
from merino_edge.cli.output import Progress
from merino_edge.core import space as spaces
from merino_edge.core import targets
from merino_edge.core.budget import Budget
from merino_edge.errors import BudgetError
from merino_edge.formats.architecture import Architecture, describe
from merino_edge.formats.latency_table import DECODE, Workload, read_table
from merino_edge.pipeline.measured_search import (
    Bench,
    Confirmed,
    chosen,
    confirm,
    table_latency,
)
from merino_edge.search.config import SearchConfig
from merino_edge.search.run import run_search

N_CANDIDATES = 100_000  # the tiny space needs no more
TIGHT, LOOSE = 1.5, 0.8  # x the smallest member's time; x the largest time that was fitted


def main() -> None:
    """Measure, save, print."""
    parser = new_parser(__doc__, results_folder(__file__) / "confirm.json")
    parser.add_argument("table", help="of this machine")
    parser.add_argument("--budgets", type=positive_int, default=10, help="(10)")
    parser.add_argument("--seeds", type=positive_int, default=3, help="(3)")
    parser.add_argument("--most", type=positive_int, default=8, help="finalists to time (8)")
    run_script(parser, SCHEMA, measure, markdown)


def measure(options: argparse.Namespace) -> Report:
    """The report for the options of the command line."""
    begun = provenance(("numpy", "scipy"))
    latencies = read_table(options.table)
    space = spaces.get(latencies.space).replace(max_seq_len=latencies.setting.context_len)
    model, target = table_latency(
        latencies, options.table, targets.get(latencies.setting.target), space
    )
    assert model.decode is not None
    smallest = model.ms(space.decode(space.smallest()), Workload(DECODE, space.max_seq_len))
    budgets = np.geomspace(TIGHT * smallest, LOOSE * model.decode.reach[1], options.budgets)
    bench, progress = Bench(latencies, space.max_seq_len), Progress("study", plain_every_s=30)
    found: list[tuple[float, int, list[Confirmed]]] = []
    for budget_ms in budgets.tolist():
        for seed in range(options.seeds):
            progress.update(f"{len(found) + 1} of {len(budgets) * options.seeds}")

            def ask(latency, budget_ms=budget_ms, seed=seed):  # type: ignore[no-untyped-def]
                budget, config = (
                    Budget(max_latency_ms=budget_ms),
                    SearchConfig(seed=seed, candidates=N_CANDIDATES),
                )
                return run_search(space, budget, config, target, latency=latency)

            finalists = confirm(ask, model, budget_ms, options.most, bench)
            found.append((budget_ms, seed, finalists))
            progress.done(f"seed {seed}: {finalists[-1].sentence}")
    trials = _timed_again(found, bench, progress)
    over = np.array([t.again_ms / t.budget_ms for t in trials if t.again_ms is not None])
    return Report(
        provenance=begun,
        table=latencies.name,
        most=options.most,
        n_under=int((over <= 1.0).sum()),
        worst=float(over.max()),
        mean_slack=float((1.0 - over).mean()),
        trials=trials,
    )


def _timed_again(
    found: list[tuple[float, int, list[Confirmed]]], bench: Bench, progress: Progress
) -> list[Trial]:
    order = list(range(len(found)))
    random.Random(1).shuffle(order)
    trials: dict[int, Trial] = {}
    for done, i in enumerate(order):
        progress.update(f"again: {done + 1} of {len(found)}")
        trials[i] = _trial(*found[i], bench)
    return [trials[i] for i in range(len(found))]


def _trial(budget_ms: float, seed: int, finalists: list[Confirmed], bench: Bench) -> Trial:
    first = finalists[0]
    known = (first.predicted_ms, first.measured.ms)
    try:
        held = chosen(finalists)
    except BudgetError:
        return Trial(budget_ms, seed, "", len(finalists), None, *known, None, None, None)
    a: Architecture = held.result.best.architecture
    again = bench(a)
    return Trial(
        budget_ms,
        seed,
        describe(a),
        len(finalists),
        held.predicted_ms,
        *known,
        held.measured.ms,
        again.ms,
        again.half_ms,
    )


if __name__ == "__main__":
    main()
