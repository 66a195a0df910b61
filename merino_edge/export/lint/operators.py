"""Rules about operators: which there are, which types they take, which inputs must be constants.

Each is something that a parser asserts, or that TensorRT 8's gets silently wrong. Rules that look
at one operator only come with the bug or the assertion in the importer's source that they are for.
"""

import onnx
from onnx import TensorProto

from merino_edge.export.lint.graph import LintGraph, attribute, name_of, type_name
from merino_edge.export.lint.parsers import IMPORTERS, ONNX_RUNTIME
from merino_edge.export.lint.rule import (
    ALL_KINDS,
    CHANGELOG,
    IMPORTERS_8_2,
    OPERATORS_8_2,
    TRIED_RTX,
    WARNING,
    Problems,
    rule,
)

CONTRIB = "com.microsoft"
# Operator -> positions of inputs that must be constants, and the first version that computes them:
# from the importers of 8.2 and the changelog, and (11.0) from trying TensorRT-RTX 1.7's parser.
_CONSTANT_INPUTS = {
    "ConvTranspose": ((2,), None),
    "CumSum": ((1,), (11, 0)),
    "Dropout": ((2,), None),
    "InstanceNormalization": ((1, 2), (11, 0)),
    "NonMaxSuppression": ((2, 3, 4), (8, 5)),
    "Resize": ((2,), None),
    "Slice": ((3,), (10, 3)),
    "Squeeze": ((1,), None),
    "TopK": ((1,), (8, 6)),
    "Unsqueeze": ((1,), None),
    "Upsample": ((1,), None),
}
# Operators whose first type is not that of the data: only the others can be judged.
_UNTYPED = {"Constant", "ConstantOfShape", "If", "Loop", "Scan"}


@rule(
    "opset",
    refuses="a newer opset, or a domain that the parser does not know",
    why="the parser does not know it.",
    source="docs/operators.md of onnx-tensorrt for the version (8.2: 'up to Opset 13')",
    kinds=ALL_KINDS,
)
def opset(graph: LintGraph) -> Problems:
    """Only ai.onnx, up to the parser's newest, and a runtime's own domain."""
    most = graph.parser.max_opset
    for wanted in graph.model.opset_import:
        domain = wanted.domain or "ai.onnx"
        if domain == CONTRIB and graph.parser.own:
            continue
        if domain != "ai.onnx" or wanted.version > most:
            taken = f"{graph.parser.name} takes up to {most} of 'ai.onnx'."
            yield "", f"the graph needs opset {wanted.version} of '{domain}', {taken}"


@rule(
    "operator",
    refuses="an operator that the parser has no importer for",
    why="the parser looks an unknown operator up as a plugin, and fails.",
    source=f"{OPERATORS_8_2}; {CHANGELOG}; supports_operator of TensorRT-RTX 1.7.1",
    kinds=ALL_KINDS,
)
def operator(graph: LintGraph) -> Problems:
    """Every node has an importer in the version that the target is meant for."""
    for node in graph.nodes:
        kind = node.op_type
        if graph.parser.kind == ONNX_RUNTIME:
            own = node.domain == CONTRIB and kind in graph.parser.own
            taken = own or onnx.defs.has(kind, graph.opset, node.domain)
        else:
            taken = graph.parser.imports(kind, graph.parser.newest)
        if not taken:
            yield name_of(node), f"node '{name_of(node)}' is a {kind}, {_who_has(graph, kind)}."


def _who_has(graph: LintGraph, kind: str) -> str:
    text = f"which {graph.parser.name} does not take"
    if kind in IMPORTERS and graph.parser.newest < IMPORTERS[kind].since:
        text += " ({}.{} is the first that does)".format(*IMPORTERS[kind].since)
    return text


@rule(
    "older-version",
    refuses="an operator that an older TensorRT of the same board lacks",
    why="boards with that version cannot parse the graph (8.0.1 is JetPack 4.6, 8.2.1 is 4.6.1).",
    source=CHANGELOG,
    severity=WARNING,
)
def older_version(graph: LintGraph) -> Problems:
    """Worth knowing when boards have not been updated."""
    parser = graph.parser
    for node in graph.nodes:
        if parser.imports(node.op_type, parser.newest):
            for version in parser.versions:
                if not parser.imports(node.op_type, version):
                    yield name_of(node), "TensorRT {}.{} has no {}.".format(*version, node.op_type)


@rule(
    "operator-type",
    refuses="an operator on a type that it does not take",
    why="the importer asserts it.",
    source=f"{OPERATORS_8_2}; {IMPORTERS_8_2}",
    until=(8, 4),
)
def operator_type(graph: LintGraph) -> Problems:
    """The table of 8.2, with INT64 read as INT32 and DOUBLE as FLOAT."""
    read_as: dict[int, int] = {
        TensorProto.INT64: TensorProto.INT32,
        TensorProto.DOUBLE: TensorProto.FLOAT,
    }
    for node in graph.nodes:
        importer = IMPORTERS.get(node.op_type)
        if importer is None or importer.types is None or node.op_type in _UNTYPED:
            continue
        known = graph.types.keys() & set(data_inputs(node, graph.opset))
        kinds = {read_as.get(graph.types[name], graph.types[name]) for name in known}
        for kind in sorted((kinds - importer.types) & graph.parser.tensor_types):
            taken = ", ".join(sorted(map(type_name, importer.types)))
            yield (
                name_of(node),
                f"{node.op_type} on {type_name(kind)}; it takes {taken}.",
            )


def data_inputs(node: onnx.NodeProto, version: int) -> list[str]:
    """Inputs of the type that an operator is about: its result's, or else its first input's."""
    if not onnx.defs.has(node.op_type, version):
        return []
    schema = onnx.defs.get_schema(node.op_type, version)
    variables = [value.type_str for value in schema.inputs]
    if not variables:
        return []
    variables += variables[-1:] * (len(node.input) - len(variables))  # the last may repeat
    result = schema.outputs[0].type_str
    about = result if result in variables else variables[0]
    return [name for name, kind in zip(node.input, variables, strict=False) if kind == about]


@rule(
    "constant-input",
    refuses="axes, k or scales that are computed instead of constant",
    why="the importer asserts an initializer.",
    source=f"{OPERATORS_8_2}; {IMPORTERS_8_2}; {CHANGELOG}; {TRIED_RTX}",
)
def constant_input(graph: LintGraph) -> Problems:
    """Split's sizes are not among them: importSplit takes computed ones."""
    for node in graph.nodes:
        positions, computed_since = _CONSTANT_INPUTS.get(node.op_type, ((), None))
        if computed_since is not None and computed_since <= graph.parser.oldest:
            continue
        for position in positions:
            name = node.input[position] if position < len(node.input) else ""
            if name and name not in graph.constants:
                what = f"input {position} of {node.op_type} is '{name}', which must be a constant."
                yield name_of(node), what


@rule(
    "range",
    refuses="a Range of floats with computed bounds",
    why="the importer takes computed bounds in INT32 only.",
    source=f"{IMPORTERS_8_2}, importRange; {CHANGELOG} (8.4 takes them)",
    until=(8, 4),
)
def float_range(graph: LintGraph) -> Problems:
    """Constant bounds are fine."""
    for node in graph.nodes:
        computed = [name for name in node.input if name not in graph.constants]
        kind = graph.types.get(node.input[0]) if node.input else None
        if node.op_type == "Range" and computed and kind not in (6, 7):
            yield name_of(node), f"Range over {type_name(kind)} from computed '{computed[0]}'."


@rule(
    "einsum",
    refuses="an Einsum with an ellipsis or a diagonal",
    why="the layer does not take it.",
    source=f"{OPERATORS_8_2}; {TRIED_RTX}, which takes both",
    until=(11, 0),
)
def einsum(graph: LintGraph) -> Problems:
    """A letter twice in one term is a diagonal."""
    for node, equation in _einsums(graph):
        terms = equation.replace(" ", "").split("->")[0].split(",")
        if "..." in equation or any(len(set(term)) < len(term) for term in terms):
            yield name_of(node), f"its equation is '{equation}'."


@rule(
    "einsum-letters",
    refuses="an Einsum with capital letters",
    why="the importer asserts small ones.",
    source=f"{IMPORTERS_8_2}, importEinsum; {TRIED_RTX}",
)
def einsum_letters(graph: LintGraph) -> Problems:
    """Rename the axes."""
    for node, equation in _einsums(graph):
        if equation != equation.lower():
            yield name_of(node), f"its equation is '{equation}'."


def _einsums(graph: LintGraph) -> list[tuple[onnx.NodeProto, str]]:
    nodes = [node for node in graph.nodes if node.op_type == "Einsum"]
    return [(node, attribute(node, "equation").decode()) for node in nodes]


@rule(
    "gemm-bias",
    refuses="a Gemm of a constant matrix without a bias, unless beta is other than 1",
    why="the importer makes a fully connected layer with as many outputs as the missing bias has: "
    "'kernel weights has count N but 0 was expected'. The attribute beta=0 avoids that branch.",
    source=f"{IMPORTERS_8_2}, importGemm; github NVIDIA/TensorRT issue 2096",
    until=(8, 4),
)
def gemm_bias(graph: LintGraph) -> Problems:
    """The condition canUseFC of the importer."""
    for node in graph.nodes:
        if node.op_type == "Gemm" and not any(node.input[2:]):
            plain = attribute(node, "alpha", 1.0) == 1.0 and attribute(node, "beta", 1.0) == 1.0
            if plain and node.input[1] in graph.constants:
                yield name_of(node), f"Gemm by '{node.input[1]}' has no bias and beta 1."


@rule(
    "clip-half",
    refuses="a Clip of float16",
    why="the importer reads constant bounds as if float32, and refuses computed ones.",
    source=f"{IMPORTERS_8_2}, importClip",
    until=(8, 4),
)
def clip_half(graph: LintGraph) -> Problems:
    """Without bounds a Clip does nothing, and does no harm."""
    for node in graph.nodes:
        bounded = node.op_type == "Clip" and any(node.input[1:])
        if bounded and graph.types.get(node.input[0]) == TensorProto.FLOAT16:
            yield name_of(node), "Clip on FLOAT16; cast to FLOAT around it."


@rule(
    "constant-node",
    refuses="a Constant node of value_int, value_ints, strings or a sparse tensor",
    why="the importer reads the integers as floats and gets zeros, and refuses the others.",
    source=f"{IMPORTERS_8_2}, importConstant",
    until=(8, 4),
)
def constant_node(graph: LintGraph) -> Problems:
    """Tensors (attribute 'value') and floats are fine, initializers are best."""
    for node in graph.nodes:
        if node.op_type == "Constant":
            held = node.attribute[0].name
            if held not in ("value", "value_float", "value_floats"):
                yield name_of(node), f"Constant with '{held}'; make it an initializer."


RULES = (
    opset,
    operator,
    older_version,
    operator_type,
    constant_input,
    float_range,
    einsum,
    einsum_letters,
    gemm_bias,
    clip_half,
    constant_node,
)
