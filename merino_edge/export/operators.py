"""Which ONNX operators a target's runtime takes, and a check that a graph keeps to them.

The one idea: the border between "our graph" and "their parser" is a short list, checked before a
bundle exists, instead of a surprise on the board. Sources: ONNX Runtime implements all of opset
13; TensorRT 8.2's list is the operator table of onnx-tensorrt at release/8.2-GA (no Trilu, Mod,
NonZero, OneHot, LayerNormalization, Gelu; Split sizes, axes and TopK's k must be constants).
"""

from collections.abc import Iterable

import onnx

from merino_edge.errors import UnsupportedError

_ARITHMETIC = {"Add", "Clip", "Div", "Erf", "Mul", "Pow", "Relu", "Sigmoid", "Sqrt", "Sub", "Tanh"}
_MATRICES = {"Gemm", "MatMul", "ReduceMean", "Softmax"}
_SHAPES = {
    "Cast",
    "Concat",
    "Gather",
    "Reshape",
    "Shape",
    "Slice",
    "Split",
    "Transpose",
    "Unsqueeze",
}
_COMMON = frozenset(_ARITHMETIC | _MATRICES | _SHAPES)
ALLOWED_OPERATORS = {"host": _COMMON, "nano": _COMMON}
MAX_OPSET = 13


def check_operators(model: onnx.ModelProto, target: str) -> None:
    """Refuse a graph that the target's runtime would refuse.

    Raises:
        UnsupportedError: Names the first node, its operator and the target.
    """
    for opset in model.opset_import:
        if opset.domain not in ("", "ai.onnx") or opset.version > MAX_OPSET:
            raise UnsupportedError(
                f"the graph needs opset {opset.version} of '{opset.domain or 'ai.onnx'}', "
                f"target '{target}' takes up to {MAX_OPSET} of 'ai.onnx'."
            )
    for node in model.graph.node:
        if node.op_type not in ALLOWED_OPERATORS[target]:
            raise UnsupportedError(
                f"node '{node.name}' is a {node.op_type}, which target '{target}' does not take.",
                note=f"it takes {', '.join(sorted(ALLOWED_OPERATORS[target]))}.",
            )
    _check_constant_inputs(model)


def operators_of(model: onnx.ModelProto) -> list[str]:
    """The kinds of operators in a graph, sorted."""
    return sorted({node.op_type for node in model.graph.node})


def _check_constant_inputs(model: onnx.ModelProto) -> None:
    """TensorRT 8.2 wants these as initializers: axes, split sizes, reshape targets."""
    constants = {tensor.name for tensor in model.graph.initializer}
    positions: dict[str, Iterable[int]] = {"Split": (1,), "Unsqueeze": (1,), "Slice": (3,)}
    for node in model.graph.node:
        for position in positions.get(node.op_type, ()):
            if node.input[position] not in constants:
                raise UnsupportedError(
                    f"input {position} of node '{node.name}' ({node.op_type}) must be a constant."
                )
