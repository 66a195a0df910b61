"""The options of ``merino-edge search``, and the budget and method that they make.

The one idea: declared here, done in ``commands.search``, so that either can be read at a glance.
"""

import argparse
from typing import Any

from merino_edge.cli.options import (
    add_board,
    add_entropy,
    add_force,
    add_json,
    add_quiet,
    add_seed,
    count,
    entropy_constants,
    positive_float,
    positive_int,
)

# Option -> field of the budget.
_LIMITS = {
    "max_params": "max_params",
    "max_flops": "max_flops",
    "max_decode_flops": "max_decode_flops_per_token",
    "max_memory": "max_memory_bytes",
    "max_latency_ms": "max_latency_ms",
    "max_prefill_ms": "max_prefill_ms",
    "max_energy_mj": "max_energy_mj",
}
# Option -> cost on the front's axis.
_AXES = {
    "params": "n_params",
    "flops": "prefill_flops",
    "decode-flops": "decode_flops_per_token",
    "memory": "peak_memory_bytes",
    "latency": "latency_ms",
    "prefill": "prefill_ms",
    "energy": "energy_mj_per_token",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    _add_question(parser)
    _add_limits(parser.add_argument_group("limits"))
    _add_method(parser.add_argument_group("method"))
    _add_objective(parser.add_argument_group("objective"))
    _add_results(parser.add_argument_group("results"))
    add_board(parser.add_argument_group("on a board"), "time finalists")
    add_json(parser)
    add_quiet(parser)
    add_force(parser)


def _add_question(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target",
        metavar="NAME",
        help="machine: host, nano, nano-cpu, orin-nano, rtx, mock-nano (the table's, or host)",
    )
    parser.add_argument(
        "--space",
        metavar="NAME|FILE",
        help="paper, nano, nano-vocab, tiny, or a .json or .toml file (the target's)",
    )
    parser.add_argument(
        "--context",
        type=positive_int,
        metavar="TOKENS",
        help="longest sequence; memory and latency are quoted there (the space's or target's)",
    )
    parser.add_argument(
        "--latency-table", metavar="FILE", help="measured latencies: merino-edge profile makes them"
    )
    parser.add_argument(
        "--confirm",
        type=positive_int,
        metavar="K",
        help="build and time up to K finalists, until one keeps --max-latency-ms",
    )
    parser.add_argument(
        "--vocab-size", type=positive_int, metavar="N", help="vocabulary (the space's)"
    )


def _add_limits(group: Any) -> None:
    group.add_argument("--max-params", type=count, metavar="N", help="stored parameters")
    group.add_argument("--max-flops", type=count, metavar="N", help="of a 1024-token prompt, body")
    group.add_argument(
        "--max-decode-flops", type=count, metavar="N", help="of one generated token, head included"
    )
    group.add_argument(
        "--max-memory", type=count, metavar="BYTES", help="weights, full cache, activations"
    )
    group.add_argument(
        "--max-latency-ms", type=positive_float, metavar="MS", help="of one generated token"
    )
    group.add_argument(
        "--max-prefill-ms", type=positive_float, metavar="MS", help="of the longest prompt"
    )
    group.add_argument(
        "--max-energy-mj", type=positive_float, metavar="MJ", help="of one generated token"
    )


def _add_method(group: Any) -> None:
    group.add_argument(
        "--method",
        default="evolution",
        choices=("evolution", "exact"),
        help="exact: go on until the best of the space is proven (evolution)",
    )
    group.add_argument(
        "--candidates", type=count, default=500000, metavar="N", help="to score per seed (500k)"
    )
    group.add_argument(
        "--population", type=positive_int, default=512, metavar="N", help="survivors (512)"
    )
    add_seed(group)
    group.add_argument(
        "--seeds", type=positive_int, default=1, metavar="N", help="so many, from --seed up (1)"
    )
    group.add_argument(
        "--workers", type=positive_int, default=1, metavar="N", help="processes for the seeds (1)"
    )
    group.add_argument(
        "--no-proof", action="store_true", help="do not prove how far the result is from the best"
    )


def _add_objective(group: Any) -> None:
    group.add_argument(
        "--objective",
        default="entropy",
        metavar="NAME",
        help="entropy, or a baseline: decoder_params, params, flops, depth, random (entropy)",
    )
    add_entropy(group)


def _add_results(group: Any) -> None:
    group.add_argument(
        "-o", "--output", default="arch.json", metavar="FILE", help="result (arch.json)"
    )
    group.add_argument(
        "--pareto",
        choices=sorted(_AXES),
        help="trace the most entropy for each amount of this cost as well",
    )
    group.add_argument(
        "--report",
        metavar="FILE",
        help="HTML page to look at, with trials.jsonl and pareto.csv beside it; with a latency "
        "table also a page of that",
    )


def budget(options: argparse.Namespace, target: Any) -> Any:
    """The limits that were given, or the target's own if none was."""
    from merino_edge.core.budget import Budget

    limits = {field: getattr(options, option) for option, field in _LIMITS.items()}
    if all(limit is None for limit in limits.values()):
        return target.default_budget
    return Budget(**limits)


def config(options: argparse.Namespace, target: Any, latency: Any) -> Any:
    """How to search. A report shows a front: against latency, or parameters where it is unknown."""
    from merino_edge.core.entropy import EntropyConfig
    from merino_edge.search.config import SearchConfig

    axis = options.pareto
    if axis is None and options.report and options.objective == "entropy":
        axis = "latency" if latency or target.peak_bandwidth_bytes_per_s else "params"
    return SearchConfig(
        candidates=options.candidates,
        population=options.population,
        seed=options.seed,
        n_seeds=options.seeds,
        method=options.method,
        objective=options.objective,
        certify=not options.no_proof,
        front=_AXES.get(axis),
        entropy=EntropyConfig(**entropy_constants(options)),
    )
