"""Score a checkpoint or a bundle on texts and on questions with choices.

A checkpoint is computed by torch, a bundle by the backend that it is deployed with, so the deployed
artefact is what is scored. Texts (wikitext2, ptb) give perplexity in each convention, by name, and
bits per byte; other names are task files of lm-evaluation-harness in DIR/lm_eval_tasks, with the
data that they name below DIR. With -o an interrupted run goes on where it was: the same command.

Example:
  merino-edge eval checkpoint/ --data data/ --tasks wikitext2,ptb
  merino-edge eval bundle/ --data data/ --tasks hellaswag,arc_easy --backend ort -o results.json
  merino-edge eval checkpoint/ --data data/ --tasks piqa --limit 100 --json
  merino-edge eval bundle/ --data data/ --tasks piqa --harness

Belongs to the workstation. Questions need lm-evaluation-harness: pip install 'merino-edge[eval]'.
"""

import argparse
import sys
from typing import Any, Dict, List

from merino_edge.cli import options, output
from merino_edge.errors import UsageError

BACKENDS = ("auto", "torch", "tensorrt", "tensorrt-rtx", "native", "ort", "reference")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("path", metavar="MODEL", help="a checkpoint's or a bundle's folder")
    parser.add_argument(
        "--tasks", required=True, metavar="NAME,NAME", help="wikitext2, ptb, or names of task files"
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="where texts and tasks lie")
    parser.add_argument(
        "--backend",
        default="auto",
        choices=BACKENDS,
        help="torch computes a checkpoint, the others a bundle (auto)",
    )
    whole = {"type": options.positive_int, "metavar": "N"}  # type: Dict[str, Any]
    parser.add_argument("--threads", help="CPU threads (all cores)", **whole)
    parser.add_argument("--limit", help="only the first N items of each task", **whole)
    parser.add_argument("--batch", help="tokens that torch computes together (1024)", **whole)
    parser.add_argument("--context", help="tokens that the model reads at once", **whole)
    parser.add_argument(
        "--stride", help="tokens that each window of a text predicts (all of it)", **whole
    )
    parser.add_argument(
        "--fewshot",
        type=options.natural_int,
        metavar="N",
        help="examples before a question (what the task says)",
    )
    parser.add_argument(
        "--harness",
        action="store_true",
        help="let lm-evaluation-harness run it all: every kind of task, no journal",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write the results as JSON")
    parser.add_argument("--items", metavar="FILE", help="write each item's scores, as JSON lines")
    options.add_force(parser)
    options.add_json(parser)
    options.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Score, then print what was found."""
    progress = output.Progress("eval", quiet=args.quiet, plain_every_s=10.0)
    for path in (args.output, args.items):
        if path:
            options.refuse_to_replace(path, args.force)
    document = _harness(args, progress) if args.harness else _evaluate(args, progress)
    if args.json:
        output.print_json(document)
    else:
        _print(document)
    return 0


def _names(args: argparse.Namespace) -> List[str]:
    names = [name.strip() for name in args.tasks.split(",") if name.strip()]
    twice = sorted(set(name for name in names if names.count(name) > 1))
    if twice:
        raise UsageError("'{}' stands twice in --tasks.".format(twice[0]))
    return names


def _open(args: argparse.Namespace, progress: output.Progress) -> Any:
    from merino_edge.pipeline.evaluation.scored_model import open_model

    return open_model(
        args.path, args.backend, args.threads, args.context, args.batch, progress.done
    )


def _evaluate(args: argparse.Namespace, progress: output.Progress) -> Dict[str, Any]:
    from merino_edge.formats import jsonio
    from merino_edge.pipeline.evaluation import results
    from merino_edge.pipeline.evaluation.journal import Journal
    from merino_edge.pipeline.evaluation.run import Settings, evaluate

    names = _names(args)
    settings = Settings(names, args.data, args.limit, args.fewshot, args.context, args.stride)
    model = _open(args, progress)
    journal = Journal(args.output and args.output + ".journal", model.facts, args.force)
    if len(journal):
        progress.done("{} scores of an interrupted run are taken up".format(len(journal)))
    try:
        found, items = evaluate(
            settings, model, journal, lambda moment: progress.update(str(moment)), progress.update
        )
        if args.output:
            jsonio.write_record(args.output, results.SCHEMA, found)
        if args.items:
            results.write_items(args.items, items)
        journal.close(remove=True)
    finally:
        journal.close()
        model.close()
    progress.done("done")
    document = {"schema": results.SCHEMA}  # type: Dict[str, Any]
    document.update(jsonio.encode(found))
    return document


def _harness(args: argparse.Namespace, progress: output.Progress) -> Dict[str, Any]:
    from merino_edge.formats import jsonio
    from merino_edge.pipeline.evaluation.harness import run_harness

    names = _names(args)
    model = _open(args, progress)
    try:
        document = run_harness(model, names, args.data, args.limit, args.fewshot)
    finally:
        model.close()
    if args.output:
        jsonio.write_bytes_atomic(args.output, jsonio.dumps(document).encode("utf-8"))
    return document


def _print(document: Dict[str, Any]) -> None:
    if "results" in document:
        _print_harness(document)
        return
    model = document["model"]
    head = "{}, {} {}: {}\n"
    sys.stdout.write(
        head.format(model["name"], model["kind"], model["id"][:12], model["computed_by"])
    )
    rows = []
    for task in document["tasks"]:
        items = "{} of {}".format(task["n_items"], task["n_items_in_all"])
        for name, metric in task["metrics"].items():
            rows.append(
                (task["name"], name, _number(metric["value"]), _number(metric["stderr"]), items)
            )
    output.print_table(("task", "metric", "value", "standard error", "items"), rows)
    for task in document["tasks"]:
        sys.stdout.write("{}: {}.\n".format(task["name"], task["how"]))
        if task["n_truncated"]:
            text = "{} of {} contexts did not fit and were cut from the left."
            output.warn(task["name"] + ": " + text.format(task["n_truncated"], task["n_requests"]))
    for warning in document["conditions"]["warnings"]:
        output.warn(warning)


def _print_harness(document: Dict[str, Any]) -> None:
    rows = []
    for task, found in sorted(document["results"].items()):
        for name, value in found.items():
            if isinstance(value, float) and "_stderr" not in name:
                error = found.get(name.replace(",", "_stderr,", 1))
                rows.append((task, name.split(",")[0], _number(value), _number(error)))
    output.print_table(("task", "metric", "value", "standard error"), rows)


def _number(value: Any) -> str:
    return "{:.5g}".format(value) if isinstance(value, (int, float)) else "-"
