"""Train every decoder of the plan on the same tokens, and note its validation loss.

The one idea: everything but the architecture is the same: tokenizer, tokens, order, steps,
optimiser, held-out text. A line of ``runs.jsonl`` is one finished training; a line that is there
is not trained again, so the script may be stopped at any time.

Each training runs in a process of its own with one thread, which on a small machine is faster
than two trainings with two. The texts are read as they are; nothing of them is kept.

Example:
  python benchmarks/search/study/train.py --train wiki.train.txt --val wiki.valid.txt --workers 2
"""

import hashlib
import json
import os
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from plan import RESULTS, Plan, PlannedRun
from plan import SCHEMA as PLAN_SCHEMA
from reports import new_parser
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

from merino_edge.cli.output import Progress
from merino_edge.core import counting
from merino_edge.formats import jsonio
from merino_edge.model.transformer import new_model
from merino_edge.training.config import TrainConfig
from merino_edge.training.data import Batches, TokenStream
from merino_edge.training.evaluate import evaluate
from merino_edge.training.optim import learning_rate_at, make_optimizer, set_learning_rate
from merino_edge.training.tokenizer import train_bpe

EVAL_TOKENS = 131_072


class Texts(NamedTuple):
    """The ids that all runs share, saved as two .npy files, and where they came from."""

    train_file: str
    val_file: str
    facts: dict[str, Any]


def prepare(train_path: str, val_path: str, vocab_size: int, folder: str) -> Texts:
    """Tokenise both texts with a vocabulary learned on the first."""
    train_text, val_text = Path(train_path).read_text("utf-8"), Path(val_path).read_text("utf-8")
    tokenizer = Tokenizer.from_str(train_bpe([train_text], vocab_size))
    facts: dict[str, Any] = {"vocab_size": vocab_size}
    files = []
    for name, text in (("train", train_text), ("val", val_text)):
        ids = np.array(tokenizer.encode(text).ids, dtype=np.uint16)
        files.append(os.path.join(folder, name + ".npy"))
        np.save(files[-1], ids)
        raw = text.encode("utf-8")
        facts[name] = {
            "sha256": hashlib.sha256(raw).hexdigest(),
            "n_bytes": len(raw),
            "n_tokens": len(ids),
        }
    return Texts(files[0], files[1], facts)


def config_for(run: PlannedRun, n_steps: int) -> TrainConfig:
    """The recipe: the package's own defaults, but for the number of steps."""
    return TrainConfig.for_model(run.architecture, n_steps, seed=run.seed, threads=1)


def train_one(job: tuple[PlannedRun, Texts, int]) -> dict[str, Any]:
    """One training; returns the line of ``runs.jsonl``."""
    run, texts, n_steps = job
    torch.set_num_threads(1)
    config = config_for(run, n_steps)
    tokens = TokenStream([np.load(texts.train_file, mmap_mode="r")])
    batches = Batches(tokens, config.batch_size, config.seq_len, config.seed)
    val = np.load(texts.val_file, mmap_mode="r")
    model = new_model(run.architecture, config.seed)
    start = time.perf_counter()
    losses = _train(model, batches, config)
    train_s = time.perf_counter() - start
    found = evaluate(model, val, config.seq_len, EVAL_TOKENS)
    return {
        "arch_id": run.architecture.arch_id,
        "seed": run.seed,
        "val_loss": round(found.loss, 5),
        "train_loss": round(float(np.mean(losses[-100:])), 5),
        "n_tokens": n_steps * config.tokens_per_step,
        "n_params": counting.n_params(run.architecture),
        "train_s": round(train_s, 1),
    }


def _train(model: nn.Module, batches: Batches, config: TrainConfig) -> list[float]:
    """All steps; returns the loss of each."""
    optimizer, losses = make_optimizer(model, config), []
    for step in range(config.n_steps):
        ids = torch.from_numpy(batches.at(step))
        logits = model(ids[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        set_learning_rate(optimizer, learning_rate_at(step, config))
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def _key(run: PlannedRun) -> tuple[str, int]:
    return run.architecture.arch_id, run.seed


def _missing(plan: Plan, path: Path) -> list[PlannedRun]:
    """The runs that have no line yet, each once."""
    done = set()
    if path.exists():
        records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        done = {(record["arch_id"], record["seed"]) for record in records}
    return [run for key, run in {_key(r): r for r in plan.runs}.items() if key not in done]


def main() -> None:
    """Train what is missing."""
    parser = new_parser(__doc__, RESULTS / "runs.jsonl")
    parser.add_argument("--train", required=True, metavar="TEXT")
    parser.add_argument("--val", required=True, metavar="TEXT")
    parser.add_argument("--plan", default=str(RESULTS / "plan.json"), metavar="FILE")
    parser.add_argument("--steps", type=int, default=1500, metavar="N", help="of 1024 tokens")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    options = parser.parse_args()
    plan: Plan = jsonio.read_record(options.plan, PLAN_SCHEMA, Plan)
    runs = _missing(plan, Path(options.output))
    progress = Progress("study")
    with tempfile.TemporaryDirectory() as folder:
        texts = prepare(options.train, options.val, plan.space.vocab_size, folder)
        conditions = {**texts.facts, "n_steps": options.steps, "torch": torch.__version__}
        Path(options.output).with_suffix(".conditions.json").write_text(
            jsonio.dumps(conditions), "utf-8"
        )
        jobs = [(run, texts, options.steps) for run in runs]
        with get_context("spawn").Pool(options.workers) as pool:
            for n_done, record in enumerate(pool.imap_unordered(train_one, jobs), 1):
                with open(options.output, "a", encoding="utf-8") as stream:
                    stream.write(json.dumps(record) + "\n")
                progress.done(f"{n_done} of {len(runs)}: {record['val_loss']:.3f} nats per token")


if __name__ == "__main__":
    main()
