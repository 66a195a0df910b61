"""Say what a bundle holds, from its manifest alone.

Example:
  merino-edge inspect bundle/
  merino-edge inspect bundle/ --json

Works on both machines and loads no model. `verify` checks that it is true.
"""

import argparse
import sys
from typing import List

from merino_edge.cli import options
from merino_edge.cli.output import first_line, human_bytes, human_count, print_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", help="the folder")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the manifest, for people or as it is."""
    from merino_edge.formats.bundle import Bundle
    from merino_edge.formats.jsonio import encode

    bundle = Bundle.open(args.bundle)
    if args.json:
        print_json(dict(encode(bundle.manifest), bundle_id=bundle.bundle_id))
        return 0
    sys.stdout.write("\n".join(_card(bundle)) + "\n")
    return 0


def _card(bundle: "Bundle") -> List[str]:  # type: ignore[name-defined]  # noqa: F821
    from merino_edge.formats.architecture import describe

    m, a = bundle.manifest, bundle.manifest.architecture
    cache = m.kv_cache
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
    return lines
