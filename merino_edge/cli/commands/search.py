"""Find the architecture with the most effective entropy under a budget.

Belongs to the workstation. Needs no data and no training: the score follows from the shapes.
Sizes may be written 64M, 160G or 600MB. If you give no limit, the target's own budget is used; if
you give one, only those you give count. FLOPs are those of a prompt of 1024 tokens, body only.
Latency and energy are predicted from the target's peak figures, and say so.

The result (-o) is a JSON file that the other commands take for an architecture. Same question and
same seed give the same bytes. It says how far it can be from the best member of the space;
--method exact goes on until that distance is nothing. An interrupted search continues when it is
called again.

Example:
  merino-edge search --target nano --max-params 64M --max-flops 160G -o arch.json
  merino-edge search --target nano --max-latency-ms 15 --seeds 3 --report report/search.html
  merino-edge search --latency-table table.json --max-latency-ms 5 --confirm 4
  merino-edge search --latency-table board.json --max-latency-ms 25 --confirm 4 --host user@board

With a table of latencies (merino-edge profile) the limit binds the upper end of the interval that
the table states, and --confirm measures what was found, corrects the table's model and searches
again until a measured finalist keeps the limit: on this machine, or over ssh on the board that the
table is of.
"""

import argparse
import os
from typing import Any, List, NamedTuple

from merino_edge.cli import confirming
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
    refuse_to_replace,
)
from merino_edge.cli.output import Progress, print_json, warn

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
    _add_limits(parser.add_argument_group("limits"))
    _add_method(parser.add_argument_group("method"))
    _add_objective(parser.add_argument_group("objective"))
    _add_results(parser.add_argument_group("results"))
    add_board(parser.add_argument_group("on a board"), "time finalists")
    add_json(parser)
    add_quiet(parser)
    add_force(parser)


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


def run(options: argparse.Namespace) -> int:
    """Search, save, and say what was found."""
    from merino_edge.pipeline.search_report import write_report

    refuse_to_replace(options.output, options.force)
    if options.report:
        refuse_to_replace(options.report, options.force)
    confirming.refuse(options)
    if options.force:
        confirming.forget(options)
    progress = Progress("search", options.quiet)
    question = _question(options)
    result, finalists = _answer(question, options, progress)
    progress.done(_timing(result))
    result.save(options.output)
    confirming.forget(options)
    written = [options.output]
    if options.report:
        written += write_report(options.report, result)
        written += _latency_page(question, options, finalists)
    if options.json:
        document = result.to_document()
        if finalists:
            document["finalists"] = [each.record() for each in finalists]
        print_json(document)
    else:
        _print_card(result, question.table, finalists, written)
    doubt = question.latency and question.latency.beyond_reach(result.best.cost.latency_ms)
    if doubt:
        warn(doubt)
    return 0


def _latency_page(question: "_Question", options: argparse.Namespace, finalists: Any) -> List[str]:
    """With a table, a page of it beside the report: the budget and the finalists in it."""
    if not question.table:
        return []
    from merino_edge.pipeline.latency_page import write_latency_page

    path = "{}-latency.html".format(os.path.splitext(options.report)[0])
    write_latency_page(path, question.table, options.max_latency_ms, finalists, question.space)
    return [path]


class _Question(NamedTuple):
    """What was asked: everything that ``search.run.run_search`` takes, and the table behind it."""

    space: Any
    budget: Any
    config: Any
    target: Any
    table: Any
    latency: Any


def _question(options: argparse.Namespace) -> _Question:
    from merino_edge.cli.space_option import chosen_space
    from merino_edge.core import targets
    from merino_edge.core.latency_check import judged
    from merino_edge.formats.latency_table import read_table
    from merino_edge.pipeline.measured_search import table_latency

    table = judged(read_table(options.latency_table)) if options.latency_table else None
    target = targets.get(options.target or (table.setting.target if table else "host"))
    space = chosen_space(options.space, options.context, target, options.vocab_size)
    latency = None
    if table:
        latency, target = table_latency(table, options.latency_table, target, space)
    config = _config(options, target, latency)
    return _Question(space, _budget(options, target), config, target, table, latency)


def _answer(question: _Question, options: argparse.Namespace, progress: Progress) -> Any:
    """The result, and the finalists that were measured on the way to it."""
    from merino_edge.pipeline.measured_search import chosen, confirm
    from merino_edge.search.run import run_search

    def search(model: Any) -> Any:
        return run_search(
            *question[:4],
            on_progress=lambda moment: progress.update(str(moment)),
            workers=options.workers,
            state_folder=None if options.confirm else options.output + ".run",
            keep_trials=bool(options.report),
            latency=model,
        )

    if not options.confirm:
        return search(question.latency), []
    found = confirm(
        search,
        question.latency,
        options.max_latency_ms,
        options.confirm,
        confirming.bench(question.table, question.space, options, progress),
        lambda finalist: progress.done(finalist.sentence),
    )
    held = chosen(found)
    return held.result, [held, *(each for each in found if each is not held)]


def _print_card(result: Any, table: Any, finalists: List[Any], written: List[str]) -> None:
    from merino_edge.cli.latency_card import table_words
    from merino_edge.cli.search_card import search_card

    print(search_card(result))
    if table:
        print("\n".join(table_words(table)))
    if finalists:
        print("{} (of {} that were built and timed)".format(finalists[0].sentence, len(finalists)))
    print("\nwritten to {}".format(", ".join(written)))
    print("next: merino-edge train {} --corpus TEXT".format(written[0]))


def _timing(result: Any) -> str:
    words = "{:,} candidates in {:.1f} s"
    if result.certificate:
        words += ", {:.1f} s of it for the proof"
    return words.format(result.n_evaluated, result.elapsed_s, result.certificate_s)


def _budget(options: argparse.Namespace, target: Any) -> Any:
    """The limits that were given, or the target's own if none was."""
    from merino_edge.core.budget import Budget

    limits = {field: getattr(options, option) for option, field in _LIMITS.items()}
    if all(limit is None for limit in limits.values()):
        return target.default_budget
    return Budget(**limits)


def _config(options: argparse.Namespace, target: Any, latency: Any) -> Any:
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
