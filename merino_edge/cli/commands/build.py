"""Make a bundle, and on the machine that will run it, the engine of a bundle.

Example:
  merino-edge build --target nano checkpoint/ -o bundle/
  merino-edge build --target nano-cpu checkpoint/ -o bundle/
  merino-edge build --target host arch.json --random-weights -o speed-test/
  merino-edge build --config run.toml
  merino-edge build bundle/
  merino-edge build --target nano checkpoint/ --host user@board -o bundle/

The first form exports a checkpoint. The second does so for our own decoder on a CPU, with weights
of 8 bits; on a workstation, `--target host --precision int8` or int4 make the same. The third
exports untrained weights, to measure speed and memory of an architecture before anyone trains it.
The fourth runs all stages (search, train, export) as a TOML file says, skips what is up to date,
and resumes what was interrupted. These belong to the workstation; before the bundle gets its name,
the runtime that it is for, torch and a numpy reference must agree on its logits and tokens.

The fifth builds a TensorRT engine from a bundle: on the board, ahead of the first use. The sixth
makes the bundle, copies it to the board over ssh, builds the engine there, and brings the report
back. Whatever interrupts, `merino-edge build bundle/ --host user@board` goes on from there.
"""

import argparse
import os
import sys
from typing import Any

from merino_edge.cli import options
from merino_edge.cli.machine import require_workstation
from merino_edge.cli.output import Progress, human_bytes, human_count, print_json
from merino_edge.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", nargs="?", help="a checkpoint folder, arch.json, or a bundle")
    parser.add_argument(
        "--target",
        help="what the bundle is for: host, nano, nano-cpu, orin-nano, rtx, mock-nano (host)",
    )
    parser.add_argument("--config", metavar="RUN.TOML", help="run all stages as this file says")
    parser.add_argument(
        "--random-weights", action="store_true", help="do not train: for measuring speed and memory"
    )
    parser.add_argument(
        "--context",
        type=options.positive_int,
        help="tokens that the cache holds (the model's, at most 512)",
    )
    parser.add_argument(
        "--precision",
        choices=options.PRECISIONS,
        help="of the weights (the target's); int8 and int4 make a bundle for the native decoder. "
        "int4 keeps the table of tokens in 8 bits, int4-all does not: smaller and faster, less "
        "exact",
    )
    parser.add_argument(
        "--best",
        type=options.natural_int,
        metavar="N",
        help="engines also give the N largest logits, so that a step need not copy all (0)",
    )
    parser.add_argument("-o", "--output", default="bundle", help="the folder to make (bundle)")
    options.add_seed(parser)
    options.add_force(parser)
    options.add_json(parser)
    options.add_quiet(parser)
    _configure_engine(parser.add_argument_group("the engine"))


def _configure_engine(group: Any) -> None:
    group.add_argument(
        "--workspace", type=options.count, metavar="SIZE", help="scratch memory (the target's)"
    )
    options.add_board(group, "build it", "build")


def run(args: argparse.Namespace) -> int:
    """Build, and print the card."""
    if args.config:
        require_workstation("building from a run file")
        return _run_config(args, Progress("build", args.quiet))
    if not args.source:
        raise UsageError(
            "build needs a checkpoint, an architecture, a bundle, or --config.",
            hint="merino-edge build --target host checkpoint/ -o bundle/",
        )
    if is_bundle(args.source):
        return _run_engine(args)
    require_workstation("making a bundle from '{}'".format(args.source))
    return _run_bundle(args, Progress("build", args.quiet))


def is_bundle(path: str) -> bool:
    """Whether a path is a bundle's folder."""
    from merino_edge.formats.bundle import MANIFEST

    return os.path.isfile(os.path.join(path, MANIFEST))


def _run_engine(args: argparse.Namespace) -> int:
    from merino_edge.cli.build_engine import build_engine
    from merino_edge.formats.bundle import Bundle

    bundle = Bundle.open(args.source)
    _refuse_for_bundle(args, bundle.manifest.target)
    if args.host:
        return _build_on_board(args, bundle)
    return build_engine(bundle, args)


def _refuse_for_bundle(args: argparse.Namespace, target: str) -> None:
    given = {
        "--random-weights": args.random_weights,
        "--context": args.context,
        "--precision": args.precision,
        "--best": args.best,
        "--target": args.target not in (None, target),
    }
    for option, value in given.items():
        if value:
            raise UsageError(
                "'{}' is a bundle for '{}' already: {} comes too late.".format(
                    args.source, target, option
                ),
                hint="build the bundle again from its checkpoint.",
            )


def _run_bundle(args: argparse.Namespace, progress: Progress) -> int:
    from merino_edge.pipeline.build import BuildOptions, build_for_target, open_source

    if args.cancel:
        raise UsageError("--cancel needs the bundle that is being built on the board.")
    source = open_source(args.source, args.random_weights, args.seed)
    chosen = BuildOptions(args.context, args.precision, args.best or 0)
    bundle, parity = build_for_target(
        source, args.target or "host", args.output, chosen, args.force, progress.done
    )
    progress.done("done")
    _print_result(bundle, parity, args.json and not args.host)
    return _build_on_board(args, bundle) if args.host else 0


def _build_on_board(args: argparse.Namespace, bundle: Any) -> int:
    require_workstation("building on a board over ssh")
    from merino_edge.cli.build_remote import build_remote

    return build_remote(bundle, args)


def _run_config(args: argparse.Namespace, progress: Progress) -> int:
    if args.source or args.random_weights or args.context or args.host:
        raise UsageError(
            "--config says it all: leave out the source, --random-weights, --context and --host."
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
                "kv_cache_bytes": bundle.manifest.session_cache.total_bytes,
                "parity": encode(parity) if parity else None,
            }
        )
        return
    cache = bundle.manifest.session_cache
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
    lines.append("next        {}".format(_next_step(bundle)))
    sys.stdout.write("\n".join(lines) + "\n")


def _next_step(bundle: Any) -> str:
    if bundle.manifest.engine is None or bundle.manifest.target == "rtx":
        return "merino-edge {} {}".format(
            "bench" if bundle.manifest.engine is None else "build", bundle.path
        )
    return "copy {} to the board, and there: merino-edge build {}; or add --host user@board".format(
        bundle.path, os.path.basename(os.path.normpath(bundle.path))
    )
