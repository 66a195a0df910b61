"""Turn texts into token shards that training maps, whatever their size.

Reads text files (each a document) and JSONL (a document a line), packed or not, one document at
a time; leaves out exact copies; holds out a part that training never sees; tokenises with several
processes. Memory stays the same for any size, but for eight bytes a document. Interrupted, even by
a power cut, the same command continues with the shards that are missing.

Example:
  merino-edge tokenize --corpus texts/ --vocab-size 4096 -o tokens/
  merino-edge tokenize --corpus 'pile/*.jsonl.zst' --tokenizer tokenizer.json --workers 8 -o tokens/
  merino-edge train arch.json --data tokens/ --steps 1000 -o checkpoint/

Belongs to the workstation. --corpus takes files, folders (.txt and .jsonl, each also .gz, .xz and
.zst, at any depth) and patterns. Of a text file the end is held out; a JSONL record goes to one
side whole, by its checksum. Passages of 50 tokens that stand on both sides are dropped from the
held-out one.
"""

import argparse
import os
import shlex
import time
from typing import Any, Dict

from merino_edge.cli import options, output
from merino_edge.errors import StoppedError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--corpus", nargs="+", required=True, metavar="PATH", help="texts: files, folders, patterns"
    )
    vocabulary = parser.add_mutually_exclusive_group(required=True)
    vocabulary.add_argument("--tokenizer", metavar="FILE", help="a tokenizer.json")
    vocabulary.add_argument(
        "--vocab-size",
        type=options.positive_int,
        metavar="N",
        help="train a byte-level BPE of this size on the training side",
    )
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--workers", type=options.positive_int, metavar="N", help="processes (all cores)"
    )
    parser.add_argument(
        "--text-field", default="text", metavar="NAME", help="of JSONL records (text)"
    )
    parser.add_argument(
        "--val-fraction", type=_fraction, default=0.05, metavar="X", help="part to hold out (0.05)"
    )
    parser.add_argument(
        "--sample",
        type=options.count,
        default=256 * 10**6,
        metavar="SIZE",
        help="most text to train a tokenizer on, taken from all over the corpus (256MB)",
    )
    options.add_force(parser)
    options.add_json(parser)
    options.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Tokenise, then print what came out."""
    progress = output.Progress("tokenize", quiet=args.quiet, plain_every_s=5.0)
    try:
        facts = _tokenise(args, progress)
    except KeyboardInterrupt:
        raise StoppedError(
            "stopped; shards that are complete are kept in '{}.part'.".format(
                os.path.normpath(args.output)
            ),
            hint="continue with: " + _same_command(args),
        )
    if args.json:
        output.print_json(facts)
    else:
        _print_card(facts)
    return 0


def _tokenise(args: argparse.Namespace, progress: output.Progress) -> Dict[str, Any]:
    from merino_edge.training.tokenise import TokenisingConfig, tokenise

    config = TokenisingConfig(
        val_fraction=args.val_fraction,
        text_field=args.text_field,
        workers=args.workers or os.cpu_count() or 1,
        sample_bytes=args.sample,
    )
    began, tokens_per_s = time.monotonic(), 0.0

    def show(moment: Any) -> None:
        nonlocal tokens_per_s
        tokens_per_s = moment.tokens_per_s or tokens_per_s
        progress.update(str(moment))

    data = tokenise(
        args.corpus, args.output, args.tokenizer or args.vocab_size, config, args.force, show
    )
    progress.done("done")
    elapsed_s = time.monotonic() - began
    return _facts(args.output, data.manifest, tokens_per_s, elapsed_s)


def _facts(path: str, manifest: Any, tokens_per_s: float, elapsed_s: float) -> Dict[str, Any]:
    """Everything the card shows, as plain JSON values."""
    return {
        "tokens": path,
        "vocab_size": manifest.vocab_size,
        "n_documents": manifest.n_documents,
        "n_copies": manifest.n_copies,
        "n_blank": manifest.n_blank,
        "train_tokens": sum(shard.n_tokens for shard in manifest.train),
        "val_tokens": sum(shard.n_tokens for shard in manifest.val),
        "train_bytes": manifest.train_bytes,
        "val_bytes": manifest.val_bytes,
        "dropped_tokens": manifest.overlap.dropped_tokens,
        "run_tokens": manifest.overlap.run_tokens,
        "n_shards": len(manifest.train) + len(manifest.val),
        "corpus_sha256": manifest.corpus_sha256,
        "tokenizer_sha256": manifest.tokenizer_sha256,
        "tokens_per_s": round(tokens_per_s, 1),
        "elapsed_s": round(elapsed_s, 3),
    }


def _print_card(facts: Dict[str, Any]) -> None:
    out = "{} copies, {} blank".format(facts["n_copies"], facts["n_blank"])
    both = "{} tokens, in runs of {} or more".format(
        output.human_count(facts["dropped_tokens"]), facts["run_tokens"]
    )
    rows = [
        ("vocabulary", str(facts["vocab_size"])),
        ("documents", str(facts["n_documents"])),
        ("left out", out),
        ("training", _side(facts["train_tokens"], facts["train_bytes"])),
        ("held out", _side(facts["val_tokens"], facts["val_bytes"])),
        ("dropped, on both sides", both),
        ("pace", output.human_count(facts["tokens_per_s"]) + " tokens/s"),
    ]
    output.print_table(("tokenised", facts["tokens"]), rows)


def _side(n_tokens: int, n_bytes: int) -> str:
    return "{} tokens, {}, {:.2f} bytes a token".format(
        output.human_count(n_tokens), output.human_bytes(n_bytes), n_bytes / n_tokens
    )


def _same_command(args: argparse.Namespace) -> str:
    words = ["merino-edge", "tokenize", "--corpus"] + list(args.corpus)
    for option in ("--tokenizer", "--vocab-size", "--output", "--workers", "--text-field"):
        value = getattr(args, option.lstrip("-").replace("-", "_"))
        words += [] if value is None else [option, str(value)]
    words += ["--val-fraction", str(args.val_fraction), "--sample", str(args.sample)]
    return " ".join(shlex.quote(word) for word in words)


def _fraction(text: str) -> float:
    value = options.positive_float(text)
    if value >= 1:
        raise UsageError("'{}' is not between 0 and 1.".format(text))
    return value
