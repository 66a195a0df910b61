"""Items a second of our log-likelihoods against those of lm-evaluation-harness's own adapter.

The one idea: the same questions, as the harness builds and encodes them, in turns: ours in torch,
ours through each bundle, then the harness's HFLM on the same weights in float32 with each batch
size that was asked for (its default is 1), round after round in one process. What is timed is
answering requests, not loading or reading tasks. The answers are compared: the largest difference
of a log-likelihood, and questions where another choice is the likeliest.

What sharing can give is arithmetic: tokens that are read when each choice is read with its question
alone, against tokens of trees; the table has both.

Example:
  merino-edge build --target nano-cpu --precision int8 smollm2/ -o int8/
  python benchmarks/quality/eval_speed.py smollm2/ --data DIR --bundle int8/ --limit 40
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "common"), str(HERE.parent / "peers")]  # ``reports``, ``hf_folder``

from eval_speed_report import SCHEMA, Report, Tokens, Way, markdown  # noqa: E402
from hf_folder import write_hf_folder  # noqa: E402
from reports import new_parser, provenance, results_folder, run_script  # noqa: E402

from merino_edge.cli.options import positive_int  # noqa: E402
from merino_edge.cli.output import Progress  # noqa: E402
from merino_edge.model.checkpoint import load_checkpoint, read_text  # noqa: E402
from merino_edge.pipeline.evaluation import task_files  # noqa: E402
from merino_edge.pipeline.evaluation.choices import ChoiceTask  # noqa: E402
from merino_edge.pipeline.evaluation.lm_eval_door import lm_eval  # noqa: E402
from merino_edge.pipeline.evaluation.scored_model import ScoredModel, open_model  # noqa: E402
from merino_edge.pipeline.evaluation.trees import plans  # noqa: E402
from merino_edge.runtime.conditions import conditions_between, snapshot  # noqa: E402


def main() -> None:
    """Measure, save, print."""
    parser = new_parser(__doc__, results_folder(__file__) / "eval_speed.json")
    parser.add_argument("checkpoint", help="weights of Llama's or GPT-2's kind")
    parser.add_argument("--data", required=True, metavar="DIR", help="with lm_eval_tasks/")
    parser.add_argument("--bundle", action="append", default=[], metavar="DIR[:BACKEND]")
    parser.add_argument("--tasks", default="hellaswag,arc_easy,piqa", metavar="NAME,NAME")
    parser.add_argument("--limit", type=positive_int, default=40, help="questions (40)")
    parser.add_argument("--rounds", type=positive_int, default=3, help="(3)")
    parser.add_argument("--threads", type=positive_int, default=2, help="(2)")
    parser.add_argument("--batches", default="1,8,32", help="batch sizes of HFLM (1,8,32)")
    run_script(parser, SCHEMA, measure, markdown)


def measure(options: argparse.Namespace) -> Report:
    """The report for the options of the command line."""
    packages = ("numpy", "torch", "transformers", "lm_eval", "tokenizers", "onnxruntime")
    begun, before = provenance(packages), snapshot()
    progress = Progress("eval speed", plain_every_s=30)
    ours = _ours(options)
    theirs = _theirs(options)
    manager = task_files.task_manager(options.data)
    ways, tokens = [], []
    for name in options.tasks.split(","):
        file = task_files.find_task(name, manager)
        task = task_files.load_task(file, options.data, manager)
        asked = ChoiceTask(name, task, next(iter(ours.values())), {}, options.limit)
        ways += _task(name, task, asked, ours, theirs, options.rounds, progress)
        tokens.append(_tokens(name, asked))
    conditions = conditions_between(before, snapshot(), begun.machine.n_cores)
    model = os.path.basename(os.path.abspath(options.checkpoint))
    return Report(begun, conditions, model, options.threads, ways, tokens)


def _ours(options: argparse.Namespace) -> dict[str, ScoredModel]:
    found = {"torch float32": open_model(options.checkpoint, threads=options.threads)}
    for each in options.bundle:
        path, _, backend = each.partition(":")
        model = open_model(path, backend or "auto", options.threads)
        found[f"{model.facts.computed_by.split(':')[0]} {model.facts.precision}"] = model
    return found


def _theirs(options: argparse.Namespace) -> dict[str, Any]:
    """HFLM by its batch size, on the same weights; its default batch comes first."""
    lm_eval()
    from lm_eval.models.huggingface import HFLM

    checkpoint = load_checkpoint(options.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        text = read_text(checkpoint.tokenizer_path)
        write_hf_folder(folder, checkpoint.architecture, checkpoint.tensors(), text)
        settings = {"pretrained": folder, "device": "cpu", "dtype": "float32", "max_length": 2048}
        sizes = [int(size) for size in options.batches.split(",")]
        return {f"HFLM, batch {size}": HFLM(batch_size=size, **settings) for size in sizes}


def _task(
    name: str,
    task: Any,
    asked: ChoiceTask,
    ours: dict[str, ScoredModel],
    theirs: dict[str, Any],
    n_rounds: int,
    progress: Progress,
) -> list[Way]:
    seconds: dict[str, list[float]] = {way: [] for way in [*ours, *theirs]}
    answers: dict[str, np.ndarray] = {}
    for turn in range(n_rounds):
        for way in seconds:
            progress.update(f"{name}, round {turn + 1} of {n_rounds}: {way}")
            start = time.perf_counter()
            if way in ours:
                scores = dict(ours[way].scorer.score(asked.requests))
                likely = [scores[i].log_likelihood for i in range(len(scores))]
            else:
                found = theirs[way].loglikelihood(task.instances, disable_tqdm=True)
                likely = [each[0] for each in found]
            seconds[way].append(time.perf_counter() - start)
            answers[way] = np.array(likely)
    truth = answers[next(iter(theirs))]
    items = np.array([instance.doc_id for instance in task.instances])
    return [
        Way(
            name,
            way,
            asked.n_items,
            [round(each, 4) for each in seconds[way]],
            float(np.abs(answers[way] - truth).max()),
            int((_choices(items, answers[way]) != _choices(items, truth)).sum()),
        )
        for way in seconds
    ]


def _choices(items: np.ndarray, likely: np.ndarray) -> np.ndarray:
    return np.array([likely[items == item].argmax() for item in np.unique(items)])


def _tokens(name: str, asked: ChoiceTask) -> Tokens:
    alone = sum(len(request.inputs) for request in asked.requests)
    in_trees = sum(len(plan.tree) for plan in plans(asked.requests))
    return Tokens(name, alone, in_trees, sum(len(r.continuation) for r in asked.requests))


if __name__ == "__main__":
    main()
