"""Say what a bundle holds, or what follows from an architecture: size, FLOPs, memory, entropy.

Example:
  merino-edge inspect bundle/
  merino-edge inspect arch.json --gamma0 0.125
  merino-edge inspect checkpoint/ --json
  merino-edge inspect arch.json --entropy-table table.json --draws 16
  merino-edge inspect --engines

A bundle is described by its manifest alone, on both machines; `verify` checks that it is true. With
it go the engines that were built from it here; --engines lists all, and what each fits.
An architecture, a result of `search` and a checkpoint are described on the workstation. Their
entropy has the constants that the search used, or the defaults; the options change them.
No model is loaded.
"""

import argparse
import os
import sys
from typing import Any, List, NamedTuple

from merino_edge.cli import options
from merino_edge.cli.machine import require_workstation
from merino_edge.cli.output import Progress, first_line, human_bytes, human_count, print_json
from merino_edge.errors import FormatError, UsageError

_CHECKPOINT = "checkpoint.json"  # as in model.checkpoint, which a board cannot import


class _Source(NamedTuple):
    """What the path holds: its title, the architecture, and the constants of the entropy."""

    title: str
    architecture: Any
    entropy: Any


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "path", nargs="?", help="a bundle, a checkpoint, an architecture or a result of search"
    )
    parser.add_argument("--engines", action="store_true", help="the engines that were built here")
    options.add_entropy(parser.add_argument_group("entropy"))
    group: Any = parser.add_argument_group("table")
    group.add_argument(
        "--entropy-table", metavar="FILE", help="write the entropy of every matrix shape as JSON"
    )
    group.add_argument(
        "--draws",
        type=options.natural_int,
        default=0,
        metavar="N",
        help="random matrices to draw for each shape, beside the closed form (0)",
    )
    options.add_seed(group)
    options.add_force(group)
    options.add_json(parser)
    options.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Print what the path holds, for people or as JSON; write the table if it was asked for."""
    if args.engines:
        return _list_engines(args)
    if not args.path:
        raise UsageError("inspect needs a path, or --engines.", hint="merino-edge inspect bundle/")
    if args.draws and not args.entropy_table:
        raise UsageError("--draws is for the table.", hint="add --entropy-table FILE.")
    if not os.path.exists(args.path):
        raise FormatError("there is no such file or folder.", args.path)
    if args.entropy_table:
        options.refuse_to_replace(args.entropy_table, args.force)
    is_checkpoint = os.path.isfile(os.path.join(args.path, _CHECKPOINT))
    if os.path.isdir(args.path) and not is_checkpoint:
        return _inspect_bundle(args)
    require_workstation("inspecting an architecture or a checkpoint")
    return _inspect_architecture(
        args, _from_checkpoint(args) if is_checkpoint else _from_file(args)
    )


def _list_engines(args: argparse.Namespace) -> int:
    from merino_edge.cli.engine_list import print_engines

    if args.path:
        raise UsageError("--engines lists all: leave out the path.")
    return print_engines(args.json)


def _inspect_bundle(args: argparse.Namespace) -> int:
    from merino_edge.formats.bundle import Bundle
    from merino_edge.formats.jsonio import encode

    bundle = Bundle.open(args.path)
    if args.entropy_table:
        require_workstation("--entropy-table")
        _write_table(args, bundle.manifest.architecture, _entropy_config(args))
    if args.json:
        print_json(dict(encode(bundle.manifest), bundle_id=bundle.bundle_id))
        return 0
    sys.stdout.write("\n".join(_bundle_card(bundle)) + "\n")
    return 0


def _inspect_architecture(args: argparse.Namespace, source: _Source) -> int:
    from merino_edge.cli.architecture_card import architecture_card, architecture_facts

    title, architecture, config = source
    if args.entropy_table:
        _write_table(args, architecture, config)
    facts = architecture_facts(architecture, config)
    if args.json:
        print_json(facts)
    else:
        sys.stdout.write(architecture_card(title, architecture, config, facts))
    return 0


def _from_checkpoint(args: argparse.Namespace) -> _Source:
    from merino_edge.model.checkpoint import load_checkpoint

    info = load_checkpoint(args.path).info
    facts = ["{} {:.4g}".format(name, value) for name, value in sorted(info.metrics.items())]
    title = ", ".join(["checkpoint {}: step {}".format(args.path, info.step)] + facts)
    return _Source(title, info.architecture, _entropy_config(args))


def _from_file(args: argparse.Namespace) -> _Source:
    """An architecture; a result of search brings its constants along."""
    from merino_edge.formats.architecture import read_architecture
    from merino_edge.formats.jsonio import read_json
    from merino_edge.search.result import SCHEMA, SearchResult

    architecture = read_architecture(args.path)
    if read_json(args.path).get("schema") != SCHEMA:
        return _Source(args.path, architecture, _entropy_config(args))
    result = SearchResult.load(args.path)
    title = "{}: found in space {} for target {}".format(args.path, result.space, result.target)
    return _Source(title, architecture, _entropy_config(args, vars(result.config.entropy)))


def _entropy_config(args: argparse.Namespace, base: Any = ()) -> Any:
    """The base's constants, or the defaults, but for those that were given."""
    from merino_edge.core.entropy import EntropyConfig

    return EntropyConfig(**dict(base, **options.entropy_constants(args)))


def _write_table(args: argparse.Namespace, architecture: Any, config: Any) -> None:
    from merino_edge.core import entropy_table as tables

    progress = Progress("entropy", args.quiet)
    table = tables.entropy_table(
        tables.architecture_shapes(architecture),
        config.eps,
        args.draws,
        args.seed,
        on_row=lambda row: progress.update("{} x {}".format(row.m, row.n)),
    )
    tables.write_entropy_table(args.entropy_table, table)
    words = "{} shapes written to {}".format(len(table.rows), args.entropy_table)
    if table.largest_difference is not None:
        words += "; closed form within {:.2g} % of {} draws".format(
            100.0 * table.largest_difference, args.draws
        )
    progress.done(words)


def _bundle_card(bundle: "Bundle") -> List[str]:  # type: ignore[name-defined]  # noqa: F821
    from merino_edge.cli.engine_list import engine_lines
    from merino_edge.formats.architecture import describe

    m, a = bundle.manifest, bundle.manifest.architecture
    cache = m.session_cache
    lines = [
        "{}  (id {}, made by {})".format(m.name, bundle.bundle_id, m.made_by),
        "target        {}, {}".format(m.target, m.precision),
        "architecture  {} layers: {}".format(a.n_layers, describe(a)),
        "              {}, {}, {}{}, vocabulary {}".format(
            a.norm, a.position, "gated " if a.gated_ffn else "", a.activation, a.vocab_size
        ),
        "parameters    {} stored".format(human_count(m.n_params)),
        "KV cache      {} for {} tokens ({} a token), allocated once".format(
            human_bytes(cache.total_bytes), cache.context_len, human_bytes(cache.bytes_per_token)
        ),
        "generation    eos {}, {}".format(
            m.generation.eos_token_ids, "sampling" if m.generation.do_sample else "greedy"
        ),
        "chat          {}".format("yes: " + ", ".join(sorted(m.chat.roles)) if m.chat else "no"),
    ]
    lines += ["provenance    {}: {}".format(k, v) for k, v in sorted(m.provenance.items())]
    lines += [
        "file          {} ({}, {}, sha256 {}…)".format(
            name, entry.role, human_bytes(entry.size_bytes), entry.sha256[:12]
        )
        for name, entry in m.files.items()
    ]
    lines += [
        "golden        {!r}: {} tokens".format(first_line(g.prompt), len(g.output_ids))
        for g in m.golden
    ]
    return lines + engine_lines(bundle)
