"""A graph as small as one can be and still have what a builder must be told about.

A norm in float32 between two casts, a product with weights that lie in a file beside it, a length
that varies. It promises opset 13, names like ``norm/square``, and tensors that match ``TENSORS``.
"""

import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper

from merino_edge.formats.engine_spec import ShapeProfile, TensorSpec
from merino_edge.runtime.engine.request import BuildRequest

WIDTH = 64
TENSORS = [
    TensorSpec("x", "float16", ("q_len", WIDTH), True),
    TensorSpec("y", "float16", ("q_len", WIDTH), False),
]
PROFILES = [
    ShapeProfile("decode", {"q_len": (1, 1, 1)}),
    ShapeProfile("prefill", {"q_len": (1, 8, 8)}),
]


def write_graph(folder: pathlib.Path, n_products: int = 1, width: int = WIDTH) -> str:
    """Write ``decoder.onnx`` and ``weights.safetensors``; returns the graph's path."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.random.default_rng(0).normal(size=(n_products, width, width)) / width**0.5
    offset = _write_weights(folder / "weights.safetensors", weights.astype(np.float16))
    stored = [_external(f"w{i}", (width, width), offset, i) for i in range(n_products)]
    chain = ["nh"] + [f"h{i}" for i in range(1, n_products)] + ["y"]
    products = [
        helper.make_node("MatMul", [chain[i], f"w{i}"], [chain[i + 1]], name=f"proj.{i}")
        for i in range(n_products)
    ]
    eps = helper.make_tensor("eps", TensorProto.FLOAT, [], [1e-5])
    graph = helper.make_graph(
        _norm() + products, "tiny", [_value("x", width)], [_value("y", width)], [*stored, eps]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    (folder / "decoder.onnx").write_bytes(model.SerializeToString())
    return str(folder / "decoder.onnx")


def request_for(onnx_path: str, **changes) -> BuildRequest:
    """A request that builds the graph."""
    fields = {"fp32_nodes": ["norm/*"], "workspace_bytes": 16 << 20, **changes}
    return BuildRequest(onnx_path=onnx_path, tensors=TENSORS, profiles=PROFILES, **fields)


def _norm():
    nodes = [
        ("Cast", ["x"], "xf", {"to": TensorProto.FLOAT}, "norm/up"),
        ("Mul", ["xf", "xf"], "sq", {}, "norm/square"),
        ("ReduceMean", ["sq"], "ms", {"axes": [-1], "keepdims": 1}, "norm/mean"),
        ("Add", ["ms", "eps"], "mse", {}, "norm/eps"),
        ("Sqrt", ["mse"], "rms", {}, "norm/sqrt"),
        ("Div", ["xf", "rms"], "nf", {}, "norm/div"),
        ("Cast", ["nf"], "nh", {"to": TensorProto.FLOAT16}, "norm/down"),
    ]
    return [helper.make_node(op, ins, [out], name=name, **at) for op, ins, out, at, name in nodes]


def _value(name, width):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["q_len", width])


def _write_weights(path, weights):
    header = json.dumps({"w": {"dtype": "F16", "shape": list(weights.shape)}}).encode()
    path.write_bytes(header.ljust(256) + weights.tobytes())
    return 256


def _external(name, shape, offset, index):
    tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT16, dims=shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    n_bytes = 2 * shape[0] * shape[1]
    facts = {"location": "weights.safetensors", "offset": offset + index * n_bytes}
    for key, value in {**facts, "length": n_bytes}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor
