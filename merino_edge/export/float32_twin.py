"""A float32 twin of a half-precision bundle, which tells how large its activations become.

The one idea: the twin is a bundle like any other, so the backend for ONNX Runtime runs it, with
the same cache and the same masks. Its graph has the same nodes by the same names; only FLOAT16 has
become FLOAT, and the weights are the stored ones, widened. What half precision would cut off at
65504 therefore keeps its true size and can be seen.

Watched is each value where it is made. Nodes that only move values (Transpose, Split, ...) are
not: whatever they give has been seen before. What a product adds up on the way to its result is no
tensor of the graph; see ``range_check``.
"""

import os
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from merino_edge.errors import UsageError
from merino_edge.export.graph import FLOAT, FLOAT16
from merino_edge.export.onnx_file import ONNX_FILE, WEIGHTS_FILE
from merino_edge.formats import jsonio
from merino_edge.formats.bundle import MANIFEST, Bundle, file_entries
from merino_edge.formats.manifest import SCHEMA
from merino_edge.formats.weights import TensorEntry, read_index
from merino_edge.model.checkpoint import write_tensors
from merino_edge.runtime.weights_map import map_tensors

MOVERS = frozenset({"Concat", "Gather", "Reshape", "Slice", "Split", "Transpose", "Unsqueeze"})
_INF = "watch/inf"


@dataclass(frozen=True)
class Watched:
    """A half-precision value of the original graph.

    Attributes:
        tensor: Its name.
        node: The node that makes it.
        operator: The node's kind.
        probe: The twin's output that holds the largest absolute value; inf if one is not a number.
    """

    tensor: str
    node: str
    operator: str
    probe: str


@dataclass(frozen=True)
class Twin:
    """A twin and what it watches, in the order of the graph."""

    bundle: Bundle
    watched: tuple[Watched, ...]


def make_twin(bundle: Bundle, folder: str) -> Twin:
    """Write the twin of a bundle into a folder: four bytes for every stored weight.

    Args:
        bundle: In half precision.
        folder: An existing, private folder.

    Raises:
        UsageError: The bundle is not in half precision.
        OSError: The disk is full.
    """
    if bundle.manifest.precision != "fp16":
        raise UsageError(
            f"'{bundle.path}' is {bundle.manifest.precision}: only half precision ends at 65504.",
            hint="merino-edge build --target nano CHECKPOINT -o bundle/ makes one in fp16.",
        )
    model = onnx.load(bundle.file("onnx"), load_external_data=False)
    watched = _watched(model)
    weights_path = os.path.join(folder, WEIGHTS_FILE)
    write_tensors(weights_path, map_tensors(bundle.file("weights")))
    _widen(model.graph, read_index(weights_path))
    _add_probes(model.graph, watched)
    jsonio.write_bytes_atomic(os.path.join(folder, ONNX_FILE), model.SerializeToString())
    return Twin(_write_manifest(bundle, folder), watched)


def _watched(model: onnx.ModelProto) -> tuple[Watched, ...]:
    halves = _half_tensors(model)
    return tuple(
        Watched(name, node.name, node.op_type, f"watch/{name}")
        for node in model.graph.node
        if node.op_type not in MOVERS
        for name in node.output
        if name in halves
    )


def _half_tensors(model: onnx.ModelProto) -> set[str]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*graph.value_info, *graph.output]
    return {value.name for value in values if value.type.tensor_type.elem_type == FLOAT16}


def _widen(graph: onnx.GraphProto, weights: dict[str, TensorEntry]) -> None:
    """FLOAT16 becomes FLOAT: initializers, inputs, outputs, and what Casts cast to."""
    for tensor in graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            _point_into(tensor, weights[tensor.name])
        elif tensor.data_type == FLOAT16:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.elem_type == FLOAT16:
            value.type.tensor_type.elem_type = FLOAT
    for attribute in (a for node in graph.node if node.op_type == "Cast" for a in node.attribute):
        if attribute.name == "to" and attribute.i == FLOAT16:
            attribute.i = FLOAT
    del graph.value_info[:]


def _point_into(tensor: TensorProto, entry: TensorEntry) -> None:
    facts = {"location": WEIGHTS_FILE, "offset": entry.offset, "length": entry.n_bytes}
    tensor.data_type = FLOAT
    del tensor.external_data[:]
    for key, value in facts.items():
        tensor.external_data.add(key=key, value=str(value))


def _add_probes(graph: onnx.GraphProto, watched: tuple[Watched, ...]) -> None:
    graph.initializer.append(numpy_helper.from_array(np.array(np.inf, np.float32), _INF))
    for value in watched:
        graph.node.extend(_probe(value))
        graph.output.append(helper.make_tensor_value_info(value.probe, FLOAT, []))


def _probe(value: Watched) -> list[NodeProto]:
    """The largest absolute value; NaN counts as infinite, since a maximum may pass it over."""
    size, is_nan, safe = (f"{value.probe}/{step}" for step in ("abs", "is_nan", "safe"))
    return [
        helper.make_node("Abs", [value.tensor], [size]),
        helper.make_node("IsNaN", [size], [is_nan]),
        helper.make_node("Where", [is_nan, _INF, size], [safe]),
        helper.make_node("ReduceMax", [safe], [value.probe], keepdims=0),
    ]


def _write_manifest(bundle: Bundle, folder: str) -> Bundle:
    manifest = bundle.manifest
    twin = manifest._replace(
        precision="fp32",
        kv_cache=manifest.kv_cache._replace(dtype="float32"),
        files=file_entries(folder, {ONNX_FILE: "onnx", WEIGHTS_FILE: "weights"}),
    )
    jsonio.write_record(os.path.join(folder, MANIFEST), SCHEMA, twin)
    return Bundle.open(folder)
