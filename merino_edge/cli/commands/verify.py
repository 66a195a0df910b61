"""Check a bundle: every file, the graph, golden tokens, and logits against the numpy reference.

Example:
  merino-edge verify bundle/
  merino-edge verify bundle/ --backend reference

Works on both machines. The graph check needs the package 'onnx' and is skipped, with a word,
where it is absent. Exit code 8 for a changed file, 5 for wrong results.
"""

import argparse
import sys

from merino_edge.cli import options
from merino_edge.cli.output import Progress, print_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", help="the folder")
    options.add_backend(parser)
    options.add_json(parser)
    options.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Run the checks in order; the first that fails ends the command."""
    from merino_edge.formats.bundle import Bundle
    from merino_edge.runtime.open import load
    from merino_edge.runtime.verify import check_golden_tokens, compare_logits, reference_logits

    progress = Progress("verify", args.quiet)
    results = []

    def report(check: str, result: str) -> None:
        results.append({"check": check, "result": result})
        if not args.json:
            sys.stdout.write("ok  {:<8} {}\n".format(check, result))

    bundle = Bundle.open(args.bundle)
    progress.update("reading every file")
    report("files", "{} files match their sha256".format(len(bundle.verify_checksums())))
    report("graph", _check_graph(bundle))
    session = load(args.bundle, args.backend, args.threads, progress.update)
    backend = session.backend
    progress.update("decoding the golden prompts")
    agreed = check_golden_tokens(backend, bundle.manifest.golden)
    report("tokens", "{} golden tokens agree ({})".format(agreed, backend.description))
    progress.update("recomputing logits with the numpy reference")
    manifest = bundle.manifest
    agreement = compare_logits(
        backend, reference_logits(bundle), manifest.golden, manifest.precision
    )
    report(
        "logits",
        "{} rows within {:.1e} of the numpy reference (relative)".format(
            agreement.n_rows, agreement.relative
        ),
    )
    session.close()
    if args.json:
        print_json(results)
    return 0


def _check_graph(bundle: "Bundle") -> str:  # type: ignore[name-defined]  # noqa: F821
    import importlib.util

    if importlib.util.find_spec("onnx") is None:
        return "skipped: the package 'onnx' is not installed"
    from merino_edge.export.graph_check import check_graph

    return str(check_graph(bundle))
