"""Make a bundle: a folder with everything a machine needs to run a model.

Example:
  merino-edge build --target host checkpoint/ -o bundle/
  merino-edge build --target host arch.json --random-weights -o speed-test/
  merino-edge build --config run.toml

The first form exports a checkpoint. The second exports untrained weights, to measure speed and
memory of an architecture before anyone trains it. The third runs all stages (search, train,
export) as a TOML file says, skips what is up to date, and resumes what was interrupted.

Belongs to the workstation. Before the bundle gets its name, ONNX Runtime, torch and a
numpy reference must agree on its logits and tokens.
"""

import argparse
import os
import sys
from typing import Any

from merino_edge.cli import options
from merino_edge.cli.output import Progress, human_bytes, human_count, print_json
from merino_edge.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", nargs="?", help="a checkpoint folder, or arch.json")
    parser.add_argument("--target", default="host", help="what the bundle is for (host)")
    parser.add_argument("--config", metavar="RUN.TOML", help="run all stages as this file says")
    parser.add_argument(
        "--random-weights", action="store_true", help="do not train: for measuring speed and memory"
    )
    parser.add_argument(
        "--context",
        type=options.positive_int,
        help="tokens that the cache holds (the model's, at most 512)",
    )
    parser.add_argument("-o", "--output", default="bundle", help="the folder to make (bundle)")
    options.add_seed(parser)
    options.add_force(parser)
    options.add_json(parser)
    options.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Build, and print the card."""
    progress = Progress("build", args.quiet)
    if args.config:
        return _run_config(args, progress)
    if not args.source:
        raise UsageError(
            "build needs a checkpoint, an architecture, or --config.",
            hint="merino-edge build --target host checkpoint/ -o bundle/",
        )
    from merino_edge.pipeline.build import build_for_target, open_source

    source = open_source(args.source, args.random_weights, args.seed)
    bundle, parity = build_for_target(
        source, args.target, args.context, args.output, args.force, progress.done
    )
    progress.done("done")
    _print_result(bundle, parity, args.json)
    return 0


def _run_config(args: argparse.Namespace, progress: Progress) -> int:
    if args.source or args.random_weights or args.context:
        raise UsageError(
            "--config says it all: leave out the source, --random-weights and --context."
        )
    from merino_edge.pipeline.run import run_pipeline
    from merino_edge.pipeline.run_config import read_run_config

    config = read_run_config(args.config)
    base = os.path.dirname(args.config)
    bundle = run_pipeline(config, base, progress.done, progress.update)
    _print_result(bundle, None, args.json)
    return 0


def _print_result(bundle: Any, parity: Any, as_json: bool) -> None:
    from merino_edge.formats.jsonio import encode

    if as_json:
        print_json(
            {
                "bundle": bundle.path,
                "bundle_id": bundle.bundle_id,
                "size_bytes": bundle.size_bytes,
                "n_params": bundle.manifest.n_params,
                "kv_cache_bytes": bundle.manifest.kv_cache.total_bytes,
                "parity": encode(parity) if parity else None,
            }
        )
        return
    cache = bundle.manifest.kv_cache
    lines = [
        "bundle      {} ({}, {})".format(
            bundle.path, bundle.bundle_id, human_bytes(bundle.size_bytes)
        ),
        "parameters  {} stored".format(human_count(bundle.manifest.n_params)),
        "KV cache    {} for {} tokens, {} a token".format(
            human_bytes(cache.total_bytes), cache.context_len, human_bytes(cache.bytes_per_token)
        ),
    ]
    if parity:
        lines.append(
            "verified    {} golden tokens; logits within {:.1e} of torch, {:.1e} of numpy".format(
                parity.golden_tokens,
                parity.against_torch.relative,
                parity.against_reference.relative,
            )
        )
    lines.append("next        merino-edge bench {}".format(bundle.path))
    sys.stdout.write("\n".join(lines) + "\n")
