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

from merino_edge.cli import confirming, search_options
from merino_edge.cli.options import refuse_to_replace
from merino_edge.cli.output import Progress, print_json, warn

configure = search_options.configure


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
    budget = search_options.budget(options, target)
    config = search_options.config(options, target, latency)
    return _Question(space, budget, config, target, table, latency)


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
