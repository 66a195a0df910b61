"""Rules about half precision: what must not be computed, or stored, in it.

The one idea: float16 ends at 65504 and is coarse below 6e-5. What sums, squares or exponentiates
leaves that range on real activations, so it must be float32 by its type in the graph; and TensorRT
8 and 10, whose builders may lower a float32 node by themselves, must be told so by name.
"""

import numpy as np

from merino_edge.export.lint.graph import LintGraph, name_of
from merino_edge.export.lint.rule import WARNING, Problems, rule

LARGEST_HALF = 65504.0
SMALLEST_NORMAL_HALF = 2.0**-14
# From here on, adding two of them overflows float32.
LARGE_FLOAT = float(np.finfo(np.float32).max) / 2
_GPT2_DEMO = "TensorRT 8.2.1 demo/HuggingFace/GPT2/export.py; NVIDIA/TensorRT issue 2564"
_WIDE_KINDS = {
    *("Exp", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LogSoftmax"),
    *("LpNormalization", "MeanVarianceNormalization", "Pow", "RMSNormalization", "ReduceL1"),
    *("ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum"),
    *("ReduceSumSquare", "Softmax"),
}


@rule(
    "fp16-range",
    refuses="a norm, softmax, power, exponential or sum that computes in float16",
    why="squares overflow beyond 255, exp beyond 11, and sums lose what they add.",
    source=_GPT2_DEMO,
)
def fp16_range(graph: LintGraph) -> Problems:
    """Cast to float32 around it."""
    for node in graph.nodes:
        if node.op_type in _WIDE_KINDS and graph.may_compute_in_half(node):
            yield name_of(node), f"{node.op_type} may compute in float16."


@rule(
    "fp16-constant",
    refuses="a constant that float16 cannot hold, read by a node that computes in it",
    why="beyond 65504 it is infinite; an epsilon below 6e-5 is coarse, below 3e-8 it is zero.",
    source="IEEE 754 binary16; TensorRT 8.2.1 demo/HuggingFace/T5 clamps its weights for this",
)
def fp16_constant(graph: LintGraph) -> Problems:
    """Weights outside the file are read where the folder is known."""
    seen = set()
    for node, tensor in graph.constant_inputs():
        if graph.may_compute_in_half(node) and tensor.name not in seen:
            seen.add(tensor.name)
            span = _span(graph, tensor)
            if span and not -LARGEST_HALF <= span[0] <= span[1] <= LARGEST_HALF:
                yield name_of(node), f"'{tensor.name}' reaches from {span[0]:g} to {span[1]:g}."
            elif span and span[0] == span[1] and 0 < abs(span[0]) < SMALLEST_NORMAL_HALF:
                yield name_of(node), f"'{tensor.name}' is {span[0]:g}."


def _span(graph: LintGraph, tensor) -> tuple[float, float] | None:
    """Least and largest value of a constant of floats; None for others."""
    if graph.types.get(tensor.name, tensor.data_type) not in (1, 10):
        return None
    values = graph.array(tensor)
    if values is None or not values.size:
        return None
    return float(values.min()), float(values.max())


@rule(
    "infinite-mask",
    refuses="an infinite constant, or one so large that two of them are, in float32",
    why="a row that is masked throughout becomes NaN; -10000 hides as well.",
    source="transformer-deploy's clamps for TensorRT 8.2; IEEE 754",
    severity=WARNING,
)
def infinite_mask(graph: LintGraph) -> Problems:
    """In float16 the rule about its range speaks."""
    for node, tensor in graph.constant_inputs():
        if graph.float_type(node) is not None and not graph.may_compute_in_half(node):
            span = _span(graph, tensor)
            if span and not -LARGE_FLOAT <= span[0] <= span[1] <= LARGE_FLOAT:
                yield name_of(node), f"'{tensor.name}' reaches from {span[0]:g} to {span[1]:g}."


@rule(
    "fp32-nodes",
    refuses="patterns that miss a float32 node of the graph, or name one that is not",
    why="TensorRT 8 may lower what no pattern names; naming others slows them down or fails.",
    source="TensorRT 8.2.1 NvInfer.h, ILayer::setPrecision; " + _GPT2_DEMO,
)
def fp32_nodes(graph: LintGraph) -> Problems:
    """Casts are borders: they may be named or not. Nothing to say where patterns are not known."""
    kinds = [graph.float_type(node) for node in graph.nodes]
    if graph.fp32_nodes is None or (10 not in kinds and not graph.fp32_nodes):
        return
    for node, kind in zip(graph.nodes, kinds, strict=True):
        named = graph.is_kept_wide(node)
        if node.op_type != "Cast" and named != (kind == 1):
            computes = {1: "float32", 10: "float16", None: "integers"}[kind]
            does = "is" if named else "is not"
            yield name_of(node), f"{node.op_type} computes in {computes} and {does} among them."


RULES = (fp16_range, fp16_constant, infinite_mask, fp32_nodes)
