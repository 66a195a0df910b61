"""The graph linter: every rule that a target's ONNX parser or builder has, applied to a graph.

The one idea: a board must not be the place where one learns that a graph cannot be built. What
TensorRT 8.2 refuses, gets wrong or makes slow is known from its sources; it stands in
``export.lint`` as rules with their sources, and a finding explains node, rule and reason. This
module knows nothing of bundles: it reads a model, and weights only where their folder is given.
"""

from collections.abc import Sequence
from typing import NamedTuple

import onnx

from merino_edge.export.lint import cost, operators, precision, tensors
from merino_edge.export.lint.graph import LintGraph
from merino_edge.export.lint.parsers import ONNX_RUNTIME, PARSERS, parser_of
from merino_edge.export.lint.rule import ERROR, WARNING, Finding, Rule
from merino_edge.formats.engine_spec import ShapeProfile

__all__ = ["ERROR", "RULES", "WARNING", "Finding", "RuleRow", "lint", "rules_table"]

RULES: tuple[Rule, ...] = operators.RULES + tensors.RULES + precision.RULES + cost.RULES


class RuleRow(NamedTuple):
    """A rule as people read it.

    Attributes:
        id: Short name.
        severity: "error" or "warning".
        refuses: What is refused.
        versions: Which parsers it holds for, as text.
        targets: The targets among those of this project.
        why: What happens otherwise.
        source: Document and version.
    """

    id: str
    severity: str
    refuses: str
    versions: str
    targets: tuple[str, ...]
    why: str
    source: str


def lint(
    model: onnx.ModelProto,
    target: str,
    profiles: Sequence[ShapeProfile] | None = None,
    fp32_nodes: Sequence[str] | None = None,
    half: bool = False,
    folder: str | None = None,
) -> list[Finding]:
    """Check a graph against all rules of a target.

    Args:
        model: The model; external weights need not be loaded.
        target: A name in ``core.targets``.
        profiles: Lengths of the named dimensions; None leaves the rules about them out.
        fp32_nodes: Patterns of the names of nodes that will be told to compute in float32; None
            leaves the comparison with the graph out.
        half: The engine will be built with half precision allowed, so that the builder may lower
            float32 nodes that no pattern names (``BuilderFlag.FP16``).
        folder: Where external weights lie; they are then looked at, too.

    Returns:
        What was found, errors first, in the order of the rules and of the graph.

    Raises:
        UnsupportedError: There are no rules for the target.
    """
    graph = LintGraph(model, parser_of(target), profiles, fp32_nodes, half, folder)
    found = [f for rule in RULES if rule.applies_to(graph.parser) for f in rule.findings(graph)]
    return sorted(found, key=lambda finding: finding.severity != ERROR)


def rules_table(target: str | None = None) -> list[RuleRow]:
    """All rules, or those of a target.

    Raises:
        UnsupportedError: There are no rules for the target.
    """
    parsers = PARSERS if target is None else {target: parser_of(target)}
    rows = []
    for rule in RULES:
        targets = tuple(name for name, parser in parsers.items() if rule.applies_to(parser))
        if targets:
            row = (rule.id, rule.severity, rule.refuses, _versions(rule), targets)
            rows.append(RuleRow(*row, rule.why, rule.source))
    return rows


def _versions(rule: Rule) -> str:
    if rule.until is not None:
        return "TensorRT before {}.{}".format(*rule.until)
    return "all parsers" if ONNX_RUNTIME in rule.kinds else "TensorRT and TensorRT-RTX"
