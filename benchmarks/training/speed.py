"""Tokens a second: our training loop against ``transformers.Trainer`` on a GPT-2 of equal size.

The one idea: the same model twice, once as our ``Architecture`` and once as a ``GPT2Config``, on
the same ids in the same order, with the same batches, AdamW (fused), clipping, precision and
threads; dropout off, scaled-dot-product attention on in both. Each side runs its own whole loop
(loading batches, learning rate, logging to its books) without validations and checkpoints. A round
trains one after the other for some steps, of which the first are not counted; rounds alternate, so
that both meet the same moods of the machine. The ids are drawn at random: speed does not depend
on them.

Take the figures on a machine that does nothing else; the load before is in the report.

Example:
  python benchmarks/training/speed.py
  python benchmarks/training/speed.py --d-model 256 --layers 4 --rounds 3 --precision float32
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies
from reports import new_parser, provenance, results_folder, run_script
from speed_report import SCHEMA, Conditions, Race, Report, markdown

from merino_edge.cli.options import positive_int
from merino_edge.cli.output import Progress
from merino_edge.core.counting import n_params
from merino_edge.errors import MerinoError, MissingDependencyError
from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.model.transformer import new_model
from merino_edge.training.config import TrainConfig
from merino_edge.training.data import Batches, TokenStream
from merino_edge.training.loop import TrainingLoop
from merino_edge.training.machine import Machine, torch_threads
from merino_edge.training.progress import TrainProgress
from merino_edge.training.run_folder import RunFolder
from merino_edge.training.step import Stepper
from merino_edge.training.world import World

WARM_STEPS = 3  # torch plans its matrix products and fills its allocator
PACKAGES = ("torch", "transformers", "accelerate")


def architecture_of(c: Conditions) -> Architecture:
    """The GPT-2 as one of ours: every layer its own block."""
    blocks = tuple(BlockSpec(c.d_model, c.n_head, c.n_head, c.d_ff, 1) for _ in range(c.n_layers))
    return Architecture(
        blocks=blocks,
        vocab_size=c.vocab_size,
        max_seq_len=c.seq_len,
        norm="layernorm",
        position="learned",
        activation="gelu_tanh",
        attention_bias=True,
        ffn_bias=True,
    )


def batches_of(c: Conditions) -> Batches:
    """Windows of random ids, enough for one round."""
    n = (WARM_STEPS + c.steps + 2) * c.tokens_per_step
    ids = np.random.default_rng(0).integers(0, c.vocab_size, n, dtype=np.uint16)
    return Batches(TokenStream([ids]), c.batch_size, c.seq_len, seed=0)


def ours_tok_per_s(c: Conditions, precision: str) -> float:
    """One round of ours, between the reports after two steps."""
    n_steps = WARM_STEPS + c.steps
    config = TrainConfig(
        n_steps=n_steps + 1,  # the last is followed by a validation, so it is not counted
        batch_size=c.batch_size,
        seq_len=c.seq_len,
        warmup_steps=0,
        eval_every=n_steps + 1,
        eval_tokens=c.seq_len,
        save_every=n_steps + 1,
        precision=precision,
        threads=c.threads,
        device="cpu",
    )
    moments: dict[int, float] = {}

    def note(progress: TrainProgress) -> None:
        moments[progress.step] = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        model = new_model(architecture_of(c), seed=0)
        world = World()
        steps = Stepper(model, config, Machine(config), world)
        val = np.zeros(c.seq_len + 1, dtype=np.uint16)
        TrainingLoop(steps, batches_of(c), val, config, RunFolder(folder), world, note).run()
    return c.steps * c.tokens_per_step / (moments[n_steps] - moments[WARM_STEPS])


class Windows(torch.utils.data.Dataset):
    """The same windows, one by one, as a Trainer wants them."""

    def __init__(self, c: Conditions):
        batches = batches_of(c)
        rows = [batches.at(step) for step in range(WARM_STEPS + c.steps + 1)]
        self._rows = torch.from_numpy(np.concatenate(rows)[:, :-1])

    def __len__(self) -> int:
        """Windows of one round."""
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Ids [T]; the model itself shifts the labels."""
        return {"input_ids": self._rows[index], "labels": self._rows[index]}


def theirs_tok_per_s(c: Conditions, precision: str) -> float:
    """One round of transformers.Trainer, between the ends of two steps."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    moments: dict[int, float] = {}

    class Stopwatch(TrainerCallback):
        def on_step_end(self, args, state, control, **more):
            moments[state.global_step] = time.perf_counter()

    n_steps = WARM_STEPS + c.steps
    with tempfile.TemporaryDirectory() as folder, torch_threads(c.threads):
        settings = TrainingArguments(
            folder,
            max_steps=n_steps + 1,
            per_device_train_batch_size=c.batch_size,
            learning_rate=3e-3,
            weight_decay=0.1,
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            bf16=precision == "bfloat16",
            use_cpu=True,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        Trainer(gpt2(c), settings, train_dataset=Windows(c), callbacks=[Stopwatch()]).train()
    return c.steps * c.tokens_per_step / (moments[n_steps] - moments[WARM_STEPS])


def gpt2(c: Conditions) -> torch.nn.Module:
    """The same shape in transformers, with the faster of its attentions and no dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=c.vocab_size,
        n_positions=c.seq_len,
        n_embd=c.d_model,
        n_layer=c.n_layers,
        n_head=c.n_head,
        n_inner=c.d_ff,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="sdpa",
    )
    return GPT2LMHeadModel(config)


def check_sizes(c: Conditions) -> int:
    """Parameters of both.

    Raises:
        MerinoError: They differ.
    """
    ours = n_params(architecture_of(c))
    theirs = sum(parameter.numel() for parameter in gpt2(c).parameters())
    if ours != theirs:
        raise MerinoError(f"our model has {ours} parameters, the GPT-2 {theirs}.")
    return ours


def race(c: Conditions, precision: str, progress: Progress) -> Race:
    """All rounds of one precision."""
    ours, theirs = [], []
    for number in range(1, c.rounds + 1):
        ours.append(round(ours_tok_per_s(c, precision), 1))
        theirs.append(round(theirs_tok_per_s(c, precision), 1))
        shown = f"{ours[-1]:.0f} and {theirs[-1]:.0f} tokens/s"
        progress.update(f"{precision}, round {number} of {c.rounds}: {shown}")
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Race(precision, ours, theirs, round(statistics.median(ratios), 3))


def make_report(options: argparse.Namespace) -> Report:
    """Measure what the options ask for."""
    try:
        import accelerate  # noqa: F401
        import transformers
    except ImportError as error:
        raise MissingDependencyError(
            "transformers with accelerate", "its Trainer", "pip install transformers accelerate"
        ) from error
    transformers.logging.set_verbosity_error()
    began = provenance(PACKAGES)
    c = Conditions(
        d_model=options.d_model,
        n_head=options.heads,
        d_ff=4 * options.d_model,
        n_layers=options.layers,
        vocab_size=options.vocab_size,
        batch_size=options.batch_size,
        seq_len=options.seq_len,
        threads=options.threads,
        steps=options.steps,
        rounds=options.rounds,
    )
    size = check_sizes(c)
    progress = Progress("speed")
    races = [race(c, precision, progress) for precision in options.precision]
    progress.done("done")
    return Report(began, c, size, races)


def main() -> None:
    """The command line."""
    parser = new_parser(__doc__, results_folder(__file__) / "speed.json")
    number = {"type": positive_int, "metavar": "N"}
    parser.add_argument("--d-model", default=192, help="(192)", **number)
    parser.add_argument("--heads", default=6, help="(6)", **number)
    parser.add_argument("--layers", default=6, help="(6)", **number)
    parser.add_argument("--vocab-size", default=8192, help="(8192)", **number)
    parser.add_argument("--batch-size", default=8, help="windows a step (8)", **number)
    parser.add_argument("--seq-len", default=256, help="tokens a window (256)", **number)
    parser.add_argument("--threads", default=torch.get_num_threads(), help="(torch's)", **number)
    parser.add_argument("--steps", default=10, help="counted in each round (10)", **number)
    parser.add_argument("--rounds", default=5, help="of each side (5)", **number)
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=("float32", "bfloat16"),
        default=["float32", "bfloat16"],
        help="(both)",
    )
    run_script(parser, SCHEMA, make_report, markdown)


if __name__ == "__main__":
    main()
