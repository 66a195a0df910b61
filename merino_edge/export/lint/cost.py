"""Rules about cost: graphs that every parser takes and that are slow or large all the same.

All warnings. They are about the two things that a decoder on a small board cannot afford: copying
the cache for every token, and holding the largest table twice.
"""

from onnx import TensorProto

from merino_edge.export.lint.graph import PASS_THROUGH, LintGraph, name_of
from merino_edge.export.lint.rule import IMPORTERS_8_2, WARNING, Problems, rule

_PRODUCTS = {"Gemm", "MatMul"}
_SCATTERS = {"Scatter", "ScatterElements", "ScatterND"}
_CACHE_RANK = 3  # rows of heads of values; masks and ids have fewer dimensions


@rule(
    "cache-scatter",
    refuses="a Scatter into a cache that comes in as an input",
    why="the layer copies the whole tensor before it writes a row.",
    source="TensorRT 8.2.1 NvInfer.h, IScatterLayer",
    severity=WARNING,
)
def cache_scatter(graph: LintGraph) -> Problems:
    """Give the new rows as an output, and let the runtime put them where they belong."""
    for node in graph.nodes:
        if node.op_type in _SCATTERS and node.input[0] and _cache(graph, node.input[0]):
            yield name_of(node), f"{node.op_type} into '{_cache(graph, node.input[0])}'."


@rule(
    "cache-concat",
    refuses="a Concat of a cache that comes in as an input with new rows",
    why="it copies the whole cache at every step.",
    source="NVIDIA/TensorRT demo/HuggingFace/GPT2 at 8.5.3 and 8.6.1 do so, and pay for it",
    severity=WARNING,
)
def cache_concat(graph: LintGraph) -> Problems:
    """Concatenate scores instead: they are head_dim times smaller."""
    for node in graph.nodes:
        if node.op_type == "Concat":
            caches = filter(None, (_cache(graph, name) for name in node.input))
            for cache in caches:
                yield name_of(node), f"Concat of '{cache}' with new rows."


def _cache(graph: LintGraph, name: str) -> str:
    """The input of the graph that a value is, if that looks like a cache; or else ""."""
    origin = graph.origin(name)
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8)
    for value in graph.inputs:
        tensor = value.type.tensor_type
        large = len(tensor.shape.dim) >= _CACHE_RANK and tensor.elem_type in floats
        if value.name == origin and large:
            return origin
    return ""


@rule(
    "stored-twice",
    refuses="a table that is looked up and multiplied with",
    why="the engine holds it twice, once for each (measured with TensorRT-RTX 1.7: 64 MB more).",
    source=f"engine sizes of TensorRT-RTX 1.7.1; {IMPORTERS_8_2}, importGemm transposes",
    severity=WARNING,
)
def stored_twice(graph: LintGraph) -> Problems:
    """Take the rows as an input instead, and look them up outside."""
    for tensor in graph.initializers:
        readers = _readers(graph, tensor.name)
        if ("Gather", 0) in readers and any(kind in _PRODUCTS for kind, _ in readers):
            yield tensor.name, f"'{tensor.name}' is read by Gather and by a matrix product."


def _readers(graph: LintGraph, name: str) -> set[tuple[str, int]]:
    """(operator, position) of what reads a tensor, through reshapes and casts."""
    found = set()
    for node, position in graph.consumers[name]:
        found.add((node.op_type, position))
        if node.op_type in PASS_THROUGH and position == 0:
            found |= _readers(graph, node.output[0])
    return found


RULES = (cache_scatter, cache_concat, stored_twice)
