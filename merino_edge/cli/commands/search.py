"""Find the architecture with the most effective entropy under a budget.

Belongs to the workstation. Needs no data and no training: the score follows from the shapes.
Sizes may be written 64M, 160G or 600MB. If you give no limit, the target's own budget is used; if
you give one, only those you give count. FLOPs are those of a prompt of 1024 tokens, body only.

The result (-o) is a JSON file that the other commands take for an architecture. Same question and
same seed give the same bytes.

Example:
  merino-edge search --target nano --max-params 64M --max-flops 160G -o arch.json
"""

import argparse
import os
from typing import Any, Callable

from merino_edge.cli.options import (
    add_force,
    add_json,
    add_quiet,
    add_seed,
    count,
    positive_int,
)
from merino_edge.cli.output import Progress, human_count, print_json, warn
from merino_edge.errors import UsageError

_LIMITS = ("max_params", "max_flops", "max_decode_flops", "max_memory", "max_latency_ms")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--target",
        default="host",
        metavar="NAME",
        help="machine: host, nano, nano-cpu, orin-nano, rtx, mock-nano (host)",
    )
    parser.add_argument(
        "--space", metavar="NAME|FILE", help="paper, nano, tiny, or a JSON file (the target's)"
    )
    _add_limits(parser.add_argument_group("limits"))
    parser.add_argument(
        "--context",
        type=positive_int,
        metavar="TOKENS",
        help="longest sequence; memory and latency are quoted there (the space's or target's)",
    )
    parser.add_argument(
        "--vocab-size", type=positive_int, metavar="N", help="vocabulary (the space's)"
    )
    parser.add_argument(
        "--candidates", type=count, default=500000, metavar="N", help="to score in all (500k)"
    )
    parser.add_argument(
        "--population", type=positive_int, default=512, metavar="N", help="survivors (512)"
    )
    add_seed(parser)
    parser.add_argument(
        "-o", "--output", default="arch.json", metavar="FILE", help="result (arch.json)"
    )
    add_json(parser)
    add_quiet(parser)
    add_force(parser)


def _add_limits(group: Any) -> None:
    group.add_argument("--max-params", type=count, metavar="N", help="stored parameters")
    group.add_argument("--max-flops", type=count, metavar="N", help="of a 1024-token prompt, body")
    group.add_argument(
        "--max-decode-flops", type=count, metavar="N", help="of one generated token, head included"
    )
    group.add_argument("--max-memory", type=count, metavar="BYTES", help="weights and full cache")
    group.add_argument(
        "--max-latency-ms",
        type=_milliseconds,
        metavar="MS",
        help="of one generated token, as the roofline predicts it",
    )


def run(options: argparse.Namespace) -> int:
    """Search, save, and say what was found."""
    from merino_edge.cli.search_card import search_card
    from merino_edge.core import targets
    from merino_edge.search.config import SearchConfig
    from merino_edge.search.run import run_search

    _refuse_to_replace(options.output, options.force)
    target = targets.get(options.target)
    space = _space(options, target)
    budget = _budget(options, target)
    config = SearchConfig(options.candidates, options.population, options.seed)
    if not budget.bounds_depth:
        warn(
            "parameters alone do not bound depth (a shared block is stored once): only the "
            "space and the effectiveness do. Add --max-flops to bound time too."
        )
    progress = Progress("search", options.quiet)
    result = run_search(space, budget, config, target, _reporter(progress, options.candidates))
    progress.done("{} candidates in {:.1f} s".format(result.n_evaluated, result.elapsed_s or 0.0))
    result.save(options.output)
    if options.json:
        print_json(result.to_document())
        return 0
    print(search_card(result))
    print("\nwritten to {0}; next: merino-edge train {0} --corpus TEXT".format(options.output))
    return 0


def _reporter(progress: Progress, n_candidates: int) -> Callable[[Any], None]:
    def report(step: Any) -> None:
        progress.update(
            "{} of {} candidates, best {:.0f} nats".format(
                human_count(step.n_evaluated), human_count(n_candidates), step.best_total
            )
        )

    return report


def _space(options: argparse.Namespace, target: Any) -> Any:
    """The space that was asked for, with the context and vocabulary that were asked for."""
    from merino_edge.core import space as spaces

    name = options.space or target.default_space
    is_file = name not in spaces.PRESETS and (name.endswith(".json") or os.path.exists(name))
    space = spaces.from_json_file(name) if is_file else spaces.get(name)
    changes = {"max_seq_len": options.context or min(space.max_seq_len, target.max_seq_len)}
    if options.vocab_size:
        changes["vocab_size"] = options.vocab_size
    return space.replace(**changes)


def _budget(options: argparse.Namespace, target: Any) -> Any:
    """The limits that were given, or the target's own if none was."""
    from merino_edge.core.budget import Budget

    if all(getattr(options, name) is None for name in _LIMITS):
        return target.default_budget
    return Budget(*[getattr(options, name) for name in _LIMITS])


def _refuse_to_replace(path: str, force: bool) -> None:
    if os.path.isdir(path):
        raise UsageError("'{}' is a folder.".format(path), hint="-o {}/arch.json".format(path))
    if os.path.exists(path) and not force:
        raise UsageError("'{}' exists.".format(path), hint="--force replaces it; -o names another.")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UsageError("the folder '{}' does not exist.".format(folder))


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise UsageError("'{}' is not a number of milliseconds above zero.".format(text))
    return value
