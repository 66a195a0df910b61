"""Other ways to write a decoder's products with its stored matrices, in the hope of fewer copies.

The one idea: the bytes of the weights stay where they are. Half of a stored matrix is another
reference into the same file, and a turned one is a Transpose of a constant, which a builder works
out by itself.
"""

import onnx
from onnx import TensorProto, helper


def gate_and_up_apart(model: onnx.ModelProto) -> onnx.ModelProto:
    """Two products of half the width for a gated feed-forward, instead of one and a Split."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    splits = {n.input[0]: n for n in graph.node if n.name.endswith("/ffn/gate_up")}
    weights = {t.name: t for t in graph.initializer}
    nodes = []
    for node in graph.node:
        split = splits.get(node.output[0])
        if split is not None:
            halves = _halves(graph, weights[node.input[1]])
            nodes += [_like(node, *pair) for pair in zip(halves, split.output, strict=True)]
        elif not node.name.endswith("/ffn/gate_up"):
            nodes.append(node)
    _replace_nodes(graph, nodes)
    return changed


def products_of_transposed(model: onnx.ModelProto) -> onnx.ModelProto:
    """MatMul with [inputs, outputs] instead of Gemm with [outputs, inputs].

    The stored matrices stay; a Transpose of a constant is worked out while the engine is built.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph, seen, nodes = changed.graph, set(), []
    for node in graph.node:
        if node.op_type != "Gemm":
            nodes.append(node)
            continue
        turned = f"{node.input[1]}/turned"
        if turned not in seen:
            seen.add(turned)
            nodes.append(
                helper.make_node("Transpose", [node.input[1]], [turned], name=turned, perm=[1, 0])
            )
        nodes += _matmul(node, turned)
    _replace_nodes(graph, nodes)
    return changed


def _matmul(gemm: onnx.NodeProto, matrix: str) -> list[onnx.NodeProto]:
    product = gemm.output[0] + ("/product" if len(gemm.input) > 2 else "")
    nodes = [helper.make_node("MatMul", [gemm.input[0], matrix], [product], name=gemm.name)]
    if len(gemm.input) > 2:
        sums = [product, gemm.input[2]]
        nodes.append(helper.make_node("Add", sums, list(gemm.output), name=f"{gemm.name}/bias"))
    return nodes


def _halves(graph: onnx.GraphProto, weight: TensorProto) -> list[str]:
    """The upper and the lower rows of a stored matrix, as initializers of their own."""
    facts = {entry.key: entry.value for entry in weight.external_data}
    n_bytes = int(facts["length"]) // 2
    names = []
    for i, part in enumerate(("gate", "up")):
        name = f"{weight.name}.{part}"
        names.append(name)
        if any(t.name == name for t in graph.initializer):
            continue
        dims = [weight.dims[0] // 2, weight.dims[1]]
        half = TensorProto(name=name, data_type=weight.data_type, dims=dims)
        half.data_location = TensorProto.EXTERNAL
        offset = int(facts["offset"]) + i * n_bytes
        for key, fact in (("location", facts["location"]), ("offset", offset), ("length", n_bytes)):
            half.external_data.add(key=key, value=str(fact))
        graph.initializer.append(half)
    return names


def _like(gemm: onnx.NodeProto, matrix: str, output: str) -> onnx.NodeProto:
    """The same product with another matrix; without a bias, which gated layers here lack."""
    made = onnx.NodeProto()
    made.CopyFrom(gemm)
    made.name = f"{gemm.name}/{matrix.rpartition('.')[2]}"
    made.input[:] = [gemm.input[0], matrix]
    made.output[:] = [output]
    return made


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Also forget the initializers that nobody reads any more."""
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    read = {name for node in kept for name in node.input}
    initializers = [t for t in graph.initializer if t.name in read]
    kept_tensors = [TensorProto.FromString(t.SerializeToString()) for t in initializers]
    del graph.initializer[:]
    graph.initializer.extend(kept_tensors)
