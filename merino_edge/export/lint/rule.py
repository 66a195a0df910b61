"""What a rule is, and what it finds.

The one idea: a rule is a function from a graph to (node, what), wrapped in the facts that make a
finding worth reading: why it matters, which versions it holds for, and who says so. The table of
rules that people can print is these wrappers, so no rule is documented twice.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from merino_edge.export.lint.parsers import RTX, TENSORRT, Parser, Version

if TYPE_CHECKING:
    from merino_edge.export.lint.graph import LintGraph

ERROR, WARNING = "error", "warning"
ALL_KINDS = ("onnxruntime", TENSORRT, RTX)
Problems = Iterator[tuple[str, str]]

# Sources that many rules share. The parser's code is the one that JetPack 4.6.1 ships the build of.
IMPORTERS_8_2 = "onnx-tensorrt release/8.2-GA, builtin_op_importers.cpp"
UTILS_8_2 = "onnx-tensorrt release/8.2-GA, onnx2trt_utils.cpp"
OPERATORS_8_2 = "onnx-tensorrt release/8.2-GA, docs/operators.md"
CHANGELOG = "onnx-tensorrt docs/Changelog.md"
TRIED_RTX = "tried with the parser of TensorRT-RTX 1.7.1"


class Finding(NamedTuple):
    """A place in a graph that breaks a rule.

    Attributes:
        severity: "error": a parser refuses it or computes something else; "warning": it costs.
        rule: Id of the rule.
        node: Name of the node, or of the tensor where no node is at fault; "" for the whole file.
        what: What stands there, with its values.
        why: What happens with it.
        source: Document and version that say so.
    """

    severity: str
    rule: str
    node: str
    what: str
    why: str
    source: str

    def __str__(self) -> str:
        where = f" '{self.node}':" if self.node else ""
        return f"{self.severity} [{self.rule}]{where} {self.what} {self.why} ({self.source})"


@dataclass(frozen=True)
class Rule:
    """A check and the facts around it.

    Attributes:
        id: Short name.
        refuses: What is refused, for the table of rules.
        why: What happens otherwise.
        source: Document and version.
        check: Yields (node, what) for every place that breaks the rule.
        severity: ERROR or WARNING.
        until: First version of TensorRT that is free of it; None for none so far.
        kinds: Kinds of parsers that it holds for.
    """

    id: str
    refuses: str
    why: str
    source: str
    check: "Callable[[LintGraph], Problems]"
    severity: str = ERROR
    until: Version | None = None
    kinds: tuple[str, ...] = (TENSORRT, RTX)

    def applies_to(self, parser: Parser) -> bool:
        """Whether a parser is of the kind and of the age."""
        young = self.until is None or parser.oldest < self.until
        return parser.kind in self.kinds and young

    def findings(self, graph: "LintGraph") -> Iterator[Finding]:
        """What the check yields, with the facts around it."""
        for node, what in self.check(graph):
            yield Finding(self.severity, self.id, node, what, self.why, self.source)


def rule(
    id: str, refuses: str, why: str, source: str, **facts
) -> "Callable[[Callable[[LintGraph], Problems]], Rule]":
    """Make a ``Rule`` of a check; the arguments are its attributes."""
    return lambda check: Rule(id, refuses, why, source, check, **facts)
