"""The exporter's gate: a graph that its target's parser would refuse does not become a bundle.

The rules themselves, with their sources, are in ``export.lint``; here only the first error counts.
"""

from collections.abc import Sequence

import onnx

from merino_edge.errors import UnsupportedError
from merino_edge.export.tensorrt_rules import ERROR, lint
from merino_edge.formats.engine_spec import ShapeProfile


def check_operators(
    model: onnx.ModelProto,
    target: str,
    profiles: Sequence[ShapeProfile] | None = None,
    fp32_nodes: Sequence[str] | None = None,
) -> None:
    """Refuse a graph that the target's parser would refuse.

    Args:
        model: The model; external weights need not be loaded.
        target: A name in ``core.targets``.
        profiles: Lengths of the named dimensions, if known.
        fp32_nodes: Patterns of nodes that will compute in float32, if known.

    Raises:
        UnsupportedError: The first error, with its node, its rule and its source.
    """
    for finding in lint(model, target, profiles, fp32_nodes):
        if finding.severity == ERROR:
            where = f"'{finding.node}': " if finding.node else ""
            note = f"{finding.why} Rule '{finding.rule}', {finding.source}."
            raise UnsupportedError(where + finding.what, note)
