r"""One pretrained model in every form that it is deployed in, asked the same questions.

The one idea: quantising, another library and another machine's engine each may change an answer, so
every form is scored by ``merino-edge eval`` on the same items, and beside each accuracy stands how
many choices differ from those of the first form. A form that is done has its file in WORK and is
not repeated; one that was stopped goes on where it was.

A prefix of a set says less than the set: the standard errors tell how much less. It does not know
whether the files hold the questions in an order that favours someone.

Example:
  python benchmarks/quality/pretrained.py --data data/ --work work/ --limit 100 --text-limit 30 \
      --form "torch fp32=smollm2/" --form "ONNX Runtime fp32=ort-fp32/:ort" \
      --form "native int8=native-int8/:native" --form "TensorRT 8.2.1 double=nano/:tensorrt@10"
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from compare_items import Difference, Items, difference, read
from contest import command
from reports import Provenance, headline, new_parser, provenance, results_folder, run_script

from merino_edge.cli.options import positive_int
from merino_edge.cli.output import Progress, table
from merino_edge.errors import UsageError
from merino_edge.formats import jsonio
from merino_edge.pipeline.evaluation import results
from merino_edge.pipeline.evaluation.results import Evaluation, Metric, ModelFacts

SCHEMA = "merino-edge.pretrained/1"
TEXTS = ("wikitext2", "ptb")
QUESTIONS = (
    "hellaswag,arc_easy,arc_challenge,piqa,winogrande,openbookqa,boolq,sciq,rte,cb,wic,wsc,"
    "logiqa,pubmedqa"
)


class Wanted(NamedTuple):
    """A form to be scored; ``limit`` is None for that of all forms."""

    name: str
    path: str
    backend: str
    limit: int | None


class Row(NamedTuple):
    """A task in one form.

    Attributes:
        task: Its name.
        n_items: Questions, or windows of a text.
        n_items_in_all: That the file holds.
        metrics: By name.
        difference: From the first form, over the items that both were asked.
    """

    task: str
    n_items: int
    n_items_in_all: int
    metrics: dict[str, Metric]
    difference: Difference


class Form(NamedTuple):
    """One form.

    Attributes:
        name: As it was called.
        model: What was scored, by what.
        scoring_s: Seconds, on a machine that did other things as well.
        rows: A task each.
    """

    name: str
    model: ModelFacts
    scoring_s: float
    rows: list[Row]


class Report(NamedTuple):
    """All forms.

    Attributes:
        provenance: Date, machine, versions.
        context_len: Tokens that each reads at once.
        threads: Of each.
        forms: The first is what the others are compared with.
    """

    provenance: Provenance
    context_len: int
    threads: int
    forms: list[Form]


def main() -> None:
    """Score, compare, save, print."""
    parser = new_parser(__doc__, results_folder(__file__) / "pretrained.json")
    parser.add_argument("--data", required=True, metavar="DIR", help="for merino-edge eval")
    parser.add_argument("--work", required=True, metavar="DIR", help="results and journals")
    parser.add_argument(
        "--form",
        action="append",
        type=wanted,
        required=True,
        metavar="NAME=PATH[:BACKEND][@LIMIT]",
        help="several times; the first is what the others are compared with",
    )
    parser.add_argument("--tasks", default=",".join((*TEXTS, QUESTIONS)), metavar="NAME,NAME")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="first questions (all)")
    parser.add_argument(
        "--text-limit", type=positive_int, metavar="N", help="first windows of a text (all)"
    )
    parser.add_argument("--context", type=positive_int, default=1024, metavar="N", help="(1024)")
    parser.add_argument("--threads", type=positive_int, default=2, metavar="N", help="(2)")
    run_script(parser, SCHEMA, make, markdown)


def wanted(words: str) -> Wanted:
    """``NAME=PATH[:BACKEND][@LIMIT]``.

    Raises:
        argparse.ArgumentTypeError: It is something else.
    """
    name, _, rest = words.partition("=")
    rest, _, limit = rest.partition("@")
    path, _, backend = rest.partition(":")
    if not name or not path or (limit and not limit.isdigit()):
        raise argparse.ArgumentTypeError(f"'{words}' is not NAME=PATH[:BACKEND][@LIMIT]")
    return Wanted(name, path, backend or "torch", int(limit) if limit else None)


def make(options: argparse.Namespace) -> Report:
    """The report for the options of the command line.

    Raises:
        UsageError: Two forms have one name.
    """
    names = [form.name for form in options.form]
    if len(set(names)) < len(names):
        raise UsageError(f"two forms have one name: {', '.join(names)}.")
    begun = provenance(("torch", "onnxruntime", "tokenizers", "lm_eval", "numpy"))
    Path(options.work).mkdir(parents=True, exist_ok=True)
    progress = Progress("pretrained", plain_every_s=30)
    forms: list[Form] = []
    for form in options.form:
        found = list(scored(form, options))
        items = (items_of(options.work, each) for each in (names[0], form.name))
        forms.append(compared(form.name, found, *items))
        progress.done(f"{form.name}: {forms[-1].scoring_s:.0f} s")
    return Report(begun, options.context, options.threads, forms)


def scored(form: Wanted, options: argparse.Namespace) -> Iterator[Evaluation]:
    """What ``merino-edge eval`` found of texts and of questions, now or before."""
    tasks = options.tasks.split(",")
    texts = [task for task in tasks if task in TEXTS]
    questions = [task for task in tasks if task not in TEXTS]
    for part, names, n in (
        ("texts", texts, form.limit or options.text_limit),
        ("questions", questions, form.limit or options.limit),
    ):
        output, items = files_of(options.work, form.name, part)
        if names and not output.exists():
            words = ["eval", form.path, "--data", options.data, "--tasks", ",".join(names)]
            words += ["--context", str(options.context), "--threads", str(options.threads)]
            words += ["--backend", form.backend, "-o", str(output), "--items", str(items)]
            command(*words, *(["--limit", str(n)] if n else []))
        if names:
            yield jsonio.read_record(str(output), results.SCHEMA, Evaluation)


def files_of(work: str, name: str, part: str) -> tuple[Path, Path]:
    """The results and the items of one part of a form."""
    stem = f"{name}-{part}".replace(" ", "-").lower()
    return Path(work) / f"{stem}.json", Path(work) / f"{stem}.jsonl"


def items_of(work: str, name: str) -> Items:
    """A form's answers; those of texts, which have no choices, are not compared."""
    path = files_of(work, name, "questions")[1]
    return read(str(path)) if path.exists() else {}


def compared(name: str, found: list[Evaluation], first: Items, own: Items) -> Form:
    """A form, beside the first one's items."""
    tasks = [task for each in found for task in each.tasks]
    rows = [
        Row(
            task.name,
            task.n_items,
            task.n_items_in_all,
            task.metrics,
            difference(first, own, task.name),
        )
        for task in tasks
    ]
    return Form(name, found[0].model, sum(task.scoring_s for task in tasks), rows)


def markdown(report: Report) -> str:
    """The tables, one below the other."""
    return "\n".join(sections(report).values())


def sections(report: Report) -> dict[str, str]:
    """Name of a mark -> its table."""
    head = ("", *(form.name for form in report.forms))
    tasks = [row.task for row in report.forms[0].rows]
    texts = [task for task in tasks if task in TEXTS]
    rows = [
        (f"{task}: {told}", *(_cell(form, task, metric) for form in report.forms))
        for task in texts
        for told, metric in (
            ("a token", "token_perplexity"),
            ("a word", "word_perplexity_eos"),
            ("bits per byte", "bits_per_byte"),
        )
    ]
    asked = [task for task in tasks if task not in TEXTS]
    right = [(task, *(_cell(form, task, "acc") for form in report.forms)) for task in asked]
    other = [(task, *(_other(form, task) for form in report.forms[1:])) for task in asked]
    other.append(("all", *(_other(form, *asked) for form in report.forms[1:])))
    return {
        "pretrained_conditions": headline(report.provenance, f"{report.threads} threads") + "\n",
        "pretrained_texts": table(head, rows),
        "pretrained_questions": table(head, right),
        "pretrained_choices": table(("", *head[2:]), other),
    }


def _cell(form: Form, task: str, metric: str) -> str:
    for row in form.rows:
        if row.task == task:
            found = row.metrics[metric]
            whole = "" if row.n_items == row.n_items_in_all else f" ({row.n_items})"
            error = "" if found.stderr is None else f" ± {found.stderr:.3g}"
            return f"{found.value:.4g}{error}{whole}"
    return "-"


def _other(form: Form, *tasks: str) -> str:
    found = [row.difference for row in form.rows if row.task in tasks]
    return f"{sum(d.n_other_choices for d in found)} of {sum(d.n for d in found)}"


if __name__ == "__main__":
    main()
