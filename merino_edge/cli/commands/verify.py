"""Check a bundle: every file, the graph, the target's rules, golden tokens, logits against numpy.

Example:
  merino-edge verify bundle/
  merino-edge verify bundle/ --target nano --ranges text.txt
  merino-edge verify decoder.onnx --target nano
  merino-edge verify --rules --target nano

Works on both machines. The checks of the graph need a workstation with the package 'onnx', and are
skipped, with a word, where there is none. Where TensorRT-RTX is installed, NVIDIA's own parser and
builder take the graph of a bundle that is meant for TensorRT; that needs no GPU. --ranges runs a
text through a bundle of half precision and names the activations that come near the largest number
it can hold. Exit code 8 for a changed file, 5 for wrong results or overflow, 3 for a graph that the
target does not take.
"""

import argparse
import collections
import importlib.util
import os
import sys
from typing import Any, Dict, List

from merino_edge.cli import options
from merino_edge.cli.machine import is_workstation, require_workstation
from merino_edge.cli.output import Progress, human_bytes, print_json, print_table
from merino_edge.errors import UnsupportedError, UsageError
from merino_edge.formats.bundle import Bundle, optional_file


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("path", nargs="?", help="a bundle, or an ONNX file")
    parser.add_argument(
        "--target", help="whose rules the graph must keep (the bundle's; nano for an ONNX file)"
    )
    parser.add_argument("--rules", action="store_true", help="list the rules, and their sources")
    parser.add_argument("--ranges", metavar="TEXT_FILE", help="look for overflow over this text")
    options.add_backend(parser)
    options.add_json(parser)
    options.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Run the checks in order; the first that fails ends the command."""
    if args.rules:
        return _print_rules(args)
    if not args.path:
        raise UsageError(
            "verify needs a bundle or an ONNX file.", hint="merino-edge verify bundle/"
        )
    _refuse_early(args)
    report = _Report(args)
    if args.path.endswith(".onnx"):
        _check_file(args, report)
    else:
        _check_bundle(args, report)
    report.finish()
    return 0


def _refuse_early(args: argparse.Namespace) -> None:
    """What is wrong with the words is told before anything long is done."""
    if args.ranges and not os.path.isfile(args.ranges):
        raise UsageError("there is no file '{}' for --ranges.".format(args.ranges))
    if args.target and is_workstation():
        from merino_edge.core import targets

        targets.get(args.target)


class _Report:
    """What was checked, said at once, or as JSON at the end."""

    def __init__(self, args: argparse.Namespace):
        self.progress = Progress("verify", args.quiet)
        self._as_json = args.json
        self._results: List[Dict[str, Any]] = []

    def ok(self, check: str, result: str, **facts: Any) -> None:
        """A check that was passed."""
        self._results.append(dict(facts, check=check, result=result))
        if not self._as_json:
            sys.stdout.write("ok  {:<8} {}\n".format(check, result))

    def finish(self) -> None:
        """The JSON, if it was asked for."""
        if self._as_json:
            print_json(self._results)


def _check_bundle(args: argparse.Namespace, report: _Report) -> None:
    bundle = Bundle.open(args.path)
    report.progress.update("reading every file")
    report.ok("files", "{} files match their sha256".format(len(bundle.verify_checksums())))
    if optional_file(bundle, "native") is not None:
        _check_native(bundle, report)
    if optional_file(bundle, "onnx") is not None:
        _check_graph(bundle, args, report)
    if bundle.manifest.engine is not None:
        _check_builder(bundle, report)
    if args.ranges:
        _check_ranges(bundle, args.ranges, args.threads, report)
    _check_results(bundle, args, report)


def _check_native(bundle: Bundle, report: _Report) -> None:
    from merino_edge.formats.native_file import read_tensors

    native, architecture = bundle.file("native"), bundle.manifest.architecture
    tensors = read_tensors(native, architecture)
    report.ok("layout", "{} tensors lie where the architecture says".format(len(tensors)))
    weights = optional_file(bundle, "weights")
    if weights is not None:
        from merino_edge.runtime.whole_map import check_same_numbers

        report.progress.update("comparing the native file's weights with the graph's")
        n_weights = check_same_numbers(native, weights, architecture)
        report.ok("numbers", "{} weights are the native file's and the graph's".format(n_weights))


def _check_graph(bundle: Bundle, args: argparse.Namespace, report: _Report) -> None:
    if not (is_workstation() and _has("onnx")):
        report.ok("graph", "skipped: it needs Python 3.10 or later and the package 'onnx'")
        return
    from merino_edge.export.graph_check import check_graph, lint_bundle

    report.ok("graph", check_graph(bundle))
    target = args.target or bundle.manifest.target
    _tell_findings(lint_bundle(bundle, target), target, report)


def _check_file(args: argparse.Namespace, report: _Report) -> None:
    require_workstation("checking an ONNX file")
    from merino_edge.export.graph_check import lint_file

    target = args.target or "nano"
    _tell_findings(lint_file(args.path, target), target, report)


def _tell_findings(findings: List[Any], target: str, report: _Report) -> None:
    """Warnings are told; errors are told, and end the command."""
    rules: Dict[str, List[Any]] = collections.OrderedDict((f.rule, []) for f in findings)
    for finding in findings:
        rules[finding.rule].append(finding)
    for found in rules.values():
        more = " (and at {} more nodes)".format(len(found) - 1) if len(found) > 1 else ""
        report.progress.done(str(found[0]) + more)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise UnsupportedError(
            "the graph breaks rules of target '{}', {} of them; the first at '{}'.".format(
                target, len({error.rule for error in errors}), errors[0].node
            ),
            note="[{}] {} {}".format(errors[0].rule, errors[0].what, errors[0].why),
            hint="merino-edge verify --rules --target {} lists the rules.".format(target),
        )
    warnings = " ({} warnings)".format(len(findings)) if findings else ""
    report.ok("rules", "the graph keeps the rules of '{}'{}".format(target, warnings))


def _check_builder(bundle: Bundle, report: _Report) -> None:
    """NVIDIA's own parser and builder, where they are installed."""
    if not _has("tensorrt_rtx_bindings"):
        report.ok("builder", "skipped: TensorRT-RTX is not installed")
        return
    from merino_edge.runtime.engine.proof import proof_build

    built = proof_build(bundle, lambda beat: report.progress.update(str(beat)))
    report.ok(
        "builder",
        "TensorRT-RTX {} parses and builds it in {:.1f} s: {}, {:.3f} x the weights file".format(
            built.tensorrt,
            built.build_s,
            human_bytes(built.plan_bytes),
            built.plan_bytes / _weights_bytes(bundle),
        ),
        plan_bytes=built.plan_bytes,
    )


def _weights_bytes(bundle: Bundle) -> int:
    sizes = (f.size_bytes for f in bundle.manifest.files.values() if f.role == "weights")
    return next(sizes)


def _check_ranges(bundle: Bundle, path: str, threads: Any, report: _Report) -> None:
    require_workstation("looking for overflow")
    from merino_edge.export.range_check import check_ranges

    with open(path, encoding="utf-8", errors="replace") as stream:
        found = check_ranges(bundle, stream.read(), report.progress.update, threads)
    for line in found.text().splitlines():
        report.progress.done(line)
    found.require_fit()
    largest = found.worst(1)[0]
    report.ok(
        "ranges",
        "{} activations over {} tokens; the largest is {:.4g} of 65504 at '{}'".format(
            len(found.ranges), found.n_tokens, largest.max_abs or 0.0, largest.node
        ),
    )


def _check_results(bundle: Bundle, args: argparse.Namespace, report: _Report) -> None:
    from merino_edge.runtime.open import load
    from merino_edge.runtime.verify import check_golden_tokens, compare_logits, reference_logits

    manifest = bundle.manifest
    with load(args.path, args.backend, args.threads, report.progress.done) as session:
        backend = session.backend
        report.progress.update("decoding the golden prompts")
        agreed = check_golden_tokens(backend, manifest.golden)
        report.ok("tokens", "{} golden tokens agree ({})".format(agreed, backend.description))
        if backend.name == "reference":
            report.ok("logits", "skipped: the numpy reference is what they are compared with")
            return
        report.progress.update("recomputing logits with the numpy reference")
        agreement = compare_logits(
            backend, reference_logits(bundle), manifest.golden, manifest.precision
        )
    report.ok(
        "logits",
        "{} rows within {:.1e} of the numpy reference (relative)".format(
            agreement.n_rows, agreement.relative
        ),
    )


def _print_rules(args: argparse.Namespace) -> int:
    require_workstation("listing the rules")
    from merino_edge.export.tensorrt_rules import rules_table

    rules = rules_table(args.target)
    if args.json:
        print_json([rule._asdict() for rule in rules])
        return 0
    rows = [(rule.id, rule.severity, rule.versions, rule.refuses, rule.source) for rule in rules]
    print_table(("rule", "severity", "parsers", "refuses", "source"), rows)
    return 0


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
