"""Train an architecture on text.

Reads text files, trains a byte-level tokenizer unless one is given, holds out the end of each
document, trains, and writes a checkpoint with the weights of the best validation. Ctrl-C
finishes the step, saves and says how to continue; a continued run computes the very numbers that
an uninterrupted one would have. The same command again finds its result up to date.

Example:
  merino-edge search --target host --max-params 1M -o arch.json
  merino-edge train arch.json --corpus texts/ --steps 1000 -o checkpoint/
  merino-edge train arch.json --corpus texts/ --steps 1000 -o checkpoint/ --resume
  merino-edge build --target host checkpoint/ -o bundle/

Belongs to the workstation. --corpus takes files, folders (.txt, .txt.xz, .txt.gz at any depth)
and patterns. While it runs, its states stand in checkpoint.run/ beside the checkpoint.
"""

import argparse
import shlex
from typing import Any, Dict

from merino_edge.cli import options, output
from merino_edge.errors import MissingDependencyError, StoppedError, UsageError

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
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("architecture", metavar="ARCH.json", help="what search found")
    parser.add_argument(
        "--corpus", nargs="+", required=True, metavar="PATH", help="texts: files, folders, patterns"
    )
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
    _add_settings(parser.add_argument_group("settings (what is left out follows from the model)"))
    options.add_force(parser)
    options.add_json(parser)
    options.add_quiet(parser)


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
    group.add_argument(
        "--precision", choices=("float32", "bfloat16"), help="of matrix products (float32)"
    )
    group.add_argument(
        "--seed", type=options.natural_int, metavar="N", help="same seed, same result"
    )
    group.add_argument("--threads", help="CPU threads (torch's choice)", **whole)


def run(args: argparse.Namespace) -> int:
    """Train, then print what came out."""
    progress = output.Progress("train", quiet=args.quiet, plain_every_s=5.0)
    try:
        facts = _train(args, progress)
    except StoppedError as error:
        error.hint = "continue with: " + resuming_command(args)
        raise
    if args.json:
        output.print_json(facts)
    else:
        _print_card(facts)
    return 0


def _train(args: argparse.Namespace, progress: output.Progress) -> Dict[str, Any]:
    _need_torch()
    from merino_edge.formats.architecture import read_architecture
    from merino_edge.training.config import TrainConfig
    from merino_edge.training.trainer import train

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
    )
    progress.done("up to date, nothing to do" if up_to_date else "done")
    return _facts(checkpoint, up_to_date)


def _given_settings(args: argparse.Namespace) -> Dict[str, Any]:
    values = {field: getattr(args, _attribute(option)) for option, field in SETTINGS.items()}
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
    words = ["merino-edge", "train", args.architecture, "--corpus"] + list(args.corpus)
    for option in ["--tokenizer", "--vocab-size", "--output"] + list(SETTINGS):
        value = getattr(args, _attribute(option))
        words += [] if value is None else [option, str(value)]
    words += ["--force"] if args.force else []
    return " ".join(shlex.quote(word) for word in words + ["--resume"])


def _attribute(option: str) -> str:
    return option.lstrip("-").replace("-", "_")


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
