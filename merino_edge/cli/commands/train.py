"""Train an architecture on text.

Reads text files, trains a byte-level tokenizer unless one is given, holds out the end of each
document, trains, and writes a checkpoint with the weights of the best validation. Ctrl-C
finishes the step, saves and says how to continue; a continued run computes the very numbers that
an uninterrupted one would have. The same command again finds its result up to date.

Under torchrun several processes share the windows of each step; the result does not depend on
their number but for rounding, and any number may continue a run.

Example:
  merino-edge search --target host --max-params 1M -o arch.json
  merino-edge train arch.json --corpus texts/ --steps 1000 -o checkpoint/
  merino-edge train arch.json --corpus texts/ --steps 1000 -o checkpoint/ --resume
  merino-edge train arch.json --data tokens/ --teacher big-checkpoint/ -o checkpoint/
  torchrun --nproc-per-node 2 -m merino_edge train arch.json --data tokens/ -o checkpoint/
  merino-edge build --target host checkpoint/ -o bundle/

Belongs to the workstation. --corpus takes files, folders (.txt and .jsonl, packed or not, at any
depth) and patterns. While it runs, its states stand in checkpoint.run/ beside the checkpoint.
"""

import argparse
import os
import shlex
from typing import Any, Dict

from merino_edge.cli import options, output
from merino_edge.errors import MerinoError, MissingDependencyError, StoppedError, UsageError

# Option -> field of TrainConfig. What is left out follows from the architecture.
SETTINGS = {
    "--steps": "n_steps",
    "--batch-size": "batch_size",
    "--seq-len": "seq_len",
    "--learning-rate": "learning_rate",
    "--warmup-steps": "warmup_steps",
    "--weight-decay": "weight_decay",
    "--eval-every": "eval_every",
    "--save-every": "save_every",
    "--precision": "precision",
    "--seed": "seed",
    "--threads": "threads",
    "--accumulate": "accumulate",
    "--device": "device",
    "--distill-weight": "distill_weight",
    "--distill-temperature": "distill_temperature",
}
SWITCHES = {"--compile": "compile", "--shard": "shard"}
EXTRAS = {"--data": "data", "--teacher": "teacher", "--tensorboard": "tensorboard"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("architecture", metavar="ARCH.json", help="what search found")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--corpus", nargs="+", default=[], metavar="PATH", help="texts: files, folders, patterns"
    )
    source.add_argument("--data", metavar="TOKENS", help="a folder that tokenize made")
    vocabulary = parser.add_mutually_exclusive_group()
    vocabulary.add_argument("--tokenizer", metavar="FILE", help="a tokenizer.json (one is trained)")
    vocabulary.add_argument(
        "--vocab-size",
        type=options.positive_int,
        metavar="N",
        help="give the architecture another vocabulary, and train a tokenizer of this size",
    )
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="checkpoint to make")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    parser.add_argument(
        "--tensorboard", metavar="DIR", help="also write the figures there, for TensorBoard"
    )
    _add_teacher(parser.add_argument_group("a teacher (its tokenizer is the student's)"))
    _add_settings(parser.add_argument_group("settings (what is left out follows from the model)"))
    options.add_force(parser)
    options.add_json(parser)
    options.add_quiet(parser)


def _add_teacher(group: Any) -> None:
    group.add_argument("--teacher", metavar="CHECKPOINT", help="learn from its logits as well")
    group.add_argument(
        "--distill-weight",
        type=_number,
        metavar="X",
        help="of its loss; the rest is the text's (0.5)",
    )
    group.add_argument(
        "--distill-temperature", type=_number, metavar="X", help="softens what it says (2)"
    )


def _add_settings(group: Any) -> None:
    whole = {"type": options.positive_int, "metavar": "N"}
    group.add_argument("--steps", help="optimiser steps of the whole run (1000)", **whole)
    group.add_argument("--batch-size", help="windows a step", **whole)
    group.add_argument("--seq-len", help="tokens a window", **whole)
    group.add_argument("--learning-rate", type=_number, metavar="X", help="its peak")
    group.add_argument(
        "--warmup-steps", type=options.natural_int, metavar="N", help="up to the peak"
    )
    group.add_argument("--weight-decay", type=_number, metavar="X", help="on matrices only")
    group.add_argument("--eval-every", help="steps between validations", **whole)
    group.add_argument("--save-every", help="steps between saved states", **whole)
    group.add_argument("--accumulate", help="passes of --batch-size windows a step (1)", **whole)
    group.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        help="of matrix products (float32); float16 is for GPUs, and slow or absent on a CPU",
    )
    group.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), help="where (auto: a GPU if there is one)"
    )
    group.add_argument("--compile", action="store_true", help="through torch.compile")
    group.add_argument("--shard", action="store_true", help="a part in each process (FSDP)")
    group.add_argument(
        "--seed", type=options.natural_int, metavar="N", help="same seed, same result"
    )
    group.add_argument("--threads", help="CPU threads (torch's choice)", **whole)


def run(args: argparse.Namespace) -> int:
    """Train, then print what came out."""
    progress = output.Progress("train", quiet=args.quiet or not _is_first(), plain_every_s=5.0)
    try:
        facts = _train(args, progress)
    except MerinoError as error:
        if isinstance(error, StoppedError):
            error.hint = "continue with: " + resuming_command(args)
        if not _is_first() and _is_told_elsewhere(error):
            return error.exit_code
        raise
    if not _is_first():
        return 0
    if args.json:
        output.print_json(facts)
    else:
        _print_card(facts)
    return 0


def _train(args: argparse.Namespace, progress: output.Progress) -> Dict[str, Any]:
    _need_torch()
    from merino_edge.formats.architecture import read_architecture
    from merino_edge.training.config import TrainConfig
    from merino_edge.training.trainer import Extras, train

    architecture = read_architecture(args.architecture)
    if args.vocab_size:
        architecture = architecture.replace(vocab_size=args.vocab_size)
    config = TrainConfig.for_model(architecture, **_given_settings(args))
    up_to_date = False

    def show(moment: Any) -> None:
        nonlocal up_to_date
        up_to_date = moment.phase == "up to date"
        progress.update(str(moment))

    checkpoint = train(
        architecture,
        args.corpus,
        config,
        args.output,
        args.tokenizer,
        show,
        resume=args.resume,
        force=args.force,
        extras=Extras(**{field: getattr(args, field) for field in EXTRAS.values()}),
    )
    progress.done("up to date, nothing to do" if up_to_date else "done")
    return _facts(checkpoint, up_to_date)


def _given_settings(args: argparse.Namespace) -> Dict[str, Any]:
    values = {field: getattr(args, _attribute(option)) for option, field in SETTINGS.items()}
    values.update({field: getattr(args, field) or None for field in SWITCHES.values()})
    return {field: value for field, value in values.items() if value is not None}


def _facts(checkpoint: Any, up_to_date: bool) -> Dict[str, Any]:
    """Everything the card shows, as plain JSON values."""
    from merino_edge.core.counting import n_params
    from merino_edge.formats.architecture import describe

    facts = {
        "checkpoint": checkpoint.path,
        "architecture": describe(checkpoint.architecture),
        "n_params": n_params(checkpoint.architecture),
        "step": checkpoint.info.step,
        "up_to_date": up_to_date,
    }
    facts.update(checkpoint.info.metrics)
    return facts


def _print_card(facts: Dict[str, Any]) -> None:
    rows = [
        ("architecture", facts["architecture"]),
        ("parameters", output.human_count(facts["n_params"])),
        ("best step", str(facts["step"])),
        ("tokens seen", output.human_count(facts["tokens_seen"])),
        ("held-out loss", "{:.4f} nats/token".format(facts["val_loss"])),
        ("held-out bits per byte", "{:.4f}".format(facts["val_bits_per_byte"])),
    ]
    output.print_table(("trained", facts["checkpoint"]), rows)


def resuming_command(args: argparse.Namespace) -> str:
    """The command line that continues this run, ready to paste."""
    words = ["merino-edge", "train", args.architecture]
    words += ["--corpus"] + list(args.corpus) if args.corpus else []
    for option in list(EXTRAS) + ["--tokenizer", "--vocab-size", "--output"] + list(SETTINGS):
        value = getattr(args, _attribute(option))
        words += [] if value is None else [option, str(value)]
    words += [option for option in SWITCHES if getattr(args, _attribute(option))]
    words += ["--force"] if args.force else []
    return " ".join(shlex.quote(word) for word in words + ["--resume"])


def _attribute(option: str) -> str:
    return option.lstrip("-").replace("-", "_")


def _is_first() -> bool:
    """Of several processes that torchrun started, the first speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def _is_told_elsewhere(error: MerinoError) -> bool:
    from merino_edge.training.world import ToldError

    return isinstance(error, (StoppedError, ToldError))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError("'{}' is not a number.".format(text))


def _need_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError:
        raise MissingDependencyError("torch", "training", "pip install 'merino-edge[host]'")
