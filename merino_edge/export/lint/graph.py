"""A model as the rules see it: nodes of all subgraphs, inferred types, constants, who reads what.

The one idea: ask ONNX itself. Types come from strict shape inference on the file as it is, with the
weights left outside (their types and shapes stand in the file), so a model of gigabytes costs
milliseconds; a weight's values are mapped only when a rule looks at them and the folder is known.
"""

import fnmatch
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from merino_edge.export.lint.parsers import Parser
from merino_edge.formats.engine_spec import ShapeProfile

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
# Nodes that give their first input in another shape, order or type.
PASS_THROUGH = {"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
# They read floats and compute none; a Cast is a border between two types.
_NO_FLOATS = {"Cast", "Constant", "Shape", "Size"}
MAX_PROTOBUF_BYTES = 2**31 - 1


class LintGraph:
    """What the rules read.

    Attributes:
        model: The model, external weights not loaded.
        parser: Who will parse it.
        profiles: Lengths of the named dimensions, or None where not known.
        fp32_nodes: Patterns of the nodes that are told to compute in float32; None if not known.
        half: Whether the builder may compute any other float32 node in half precision.
        folder: Where external weights lie, or None where not known.
        nodes: Of the graph and of all its subgraphs.
        inline_bytes: Size of the weights inside the model.
        too_large: Whether that is more than protobuf can hold; types are not inferred then.
        inference_error: Why strict inference failed, or "".
        types: Tensor -> ONNX type, as far as it can be inferred.
        shapes: Tensor -> lengths, None for a length that is not a number.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        parser: Parser,
        profiles: Sequence[ShapeProfile] | None = None,
        fp32_nodes: Sequence[str] | None = None,
        half: bool = False,
        folder: str | None = None,
    ):
        self.model = model
        self.parser = parser
        self.profiles = profiles
        self.fp32_nodes = fp32_nodes
        self.half = half
        self.folder = folder
        self.inline_bytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
        self.too_large = self.inline_bytes > MAX_PROTOBUF_BYTES
        inferred, self.inference_error = (model, "") if self.too_large else _inferred(model)
        self._graphs = list(_graphs(inferred.graph))
        self.nodes = [node for graph in self._graphs for node in graph.node]
        self.initializers = [t for graph in self._graphs for t in graph.initializer]
        self.types: dict[str, int] = {}
        self.shapes: dict[str, tuple[int | None, ...]] = {}
        self._collect_types()

    def _collect_types(self) -> None:
        for tensor in self.initializers:
            self.types[tensor.name] = tensor.data_type
            self.shapes[tensor.name] = tuple(tensor.dims)
        for graph in self._graphs:
            for value in (*graph.input, *graph.output, *graph.value_info):
                tensor_type = value.type.tensor_type
                self.types[value.name] = tensor_type.elem_type
                if tensor_type.HasField("shape"):
                    self.shapes[value.name] = tuple(
                        dim.dim_value if dim.HasField("dim_value") else None
                        for dim in tensor_type.shape.dim
                    )

    @property
    def opset(self) -> int:
        """Of ai.onnx."""
        standard = (o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx"))
        return next(standard, 1)

    @property
    def inputs(self) -> list[onnx.ValueInfoProto]:
        """What a caller feeds: initializers may be declared as inputs too, and do not count."""
        constants = {tensor.name for tensor in self.model.graph.initializer}
        return [value for value in self.model.graph.input if value.name not in constants]

    @property
    def bindings(self) -> list[onnx.ValueInfoProto]:
        """Inputs and outputs."""
        return [*self.inputs, *self.model.graph.output]

    @cached_property
    def constants(self) -> dict[str, TensorProto]:
        """Initializers, and what Constant nodes give."""
        found = {tensor.name: tensor for tensor in self.initializers}
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute[0].name in _CONSTANT_TYPES:
                found[node.output[0]] = _constant(node.attribute[0])
        return found

    @cached_property
    def producers(self) -> dict[str, NodeProto]:
        """Tensor -> the node that gives it."""
        return {name: node for node in self.nodes for name in node.output if name}

    @cached_property
    def consumers(self) -> dict[str, list[tuple[NodeProto, int]]]:
        """Tensor -> the nodes that read it, with the position of the input."""
        found = defaultdict(list)
        for node in self.nodes:
            for position, name in enumerate(node.input):
                found[name].append((node, position))
        return found

    def constant_inputs(self) -> Iterator[tuple[NodeProto, TensorProto]]:
        """Every (node, constant that it reads)."""
        for node in self.nodes:
            for name in node.input:
                if name in self.constants:
                    yield node, self.constants[name]

    def float_type(self, node: NodeProto) -> int | None:
        """FLOAT or FLOAT16, whichever a node computes in; None for a Cast or without floats."""
        if node.op_type in _NO_FLOATS:
            return None
        kinds = [self.types.get(name) for name in (*node.input, *node.output)]
        return next((kind for kind in kinds if kind in FLOATS), None)

    def is_kept_wide(self, node: NodeProto) -> bool:
        """Whether a pattern names the node."""
        return any(fnmatch.fnmatchcase(name_of(node), p) for p in self.fp32_nodes or ())

    def may_compute_in_half(self, node: NodeProto) -> bool:
        """By its type; or because the builder may choose, and no pattern forbids it."""
        kind = self.float_type(node)
        free = self.half and self.parser.chooses_precision and not self.is_kept_wide(node)
        return kind == TensorProto.FLOAT16 or (kind == TensorProto.FLOAT and free)

    def origin(self, name: str) -> str:
        """The tensor that a value is a reshaped, transposed or cast copy of."""
        node = self.producers.get(name)
        while node is not None and node.op_type in PASS_THROUGH:
            name = node.input[0]
            node = self.producers.get(name)
        return name

    def array(self, tensor: TensorProto) -> np.ndarray | None:
        """Values of a constant, mapped from its file; None if the file is not known."""
        if tensor.data_location != TensorProto.EXTERNAL:
            return numpy_helper.to_array(tensor)
        facts = external_facts(tensor)
        if self.folder is None or "location" not in facts:
            return None
        path = os.path.join(self.folder, facts["location"])
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        offset = int(facts.get("offset", 0))
        if not os.path.isfile(path) or os.path.getsize(path) < offset + n_bytes(tensor):
            return None  # rule "external-data" speaks of it
        return np.memmap(path, dtype, "r", offset, tuple(tensor.dims)) if tensor.dims else None


def name_of(node: NodeProto) -> str:
    """What TensorRT calls a node: its name, or "node_of_" and its first output."""
    return node.name or f"node_of_{node.output[0]}"


def attribute(node: NodeProto, name: str, default: float | str | None = None):
    """The value of an attribute, or the default."""
    found = [a for a in node.attribute if a.name == name]
    return helper.get_attribute_value(found[0]) if found else default


def external_facts(tensor: TensorProto) -> dict[str, str]:
    """Location, offset and length of an external tensor, as they stand in the file."""
    return {item.key: item.value for item in tensor.external_data}


def n_bytes(tensor: TensorProto) -> int:
    """Size of the values of a tensor."""
    items = int(np.prod(tensor.dims, dtype=np.int64))
    return items * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def type_name(kind: int | None) -> str:
    """A type as ONNX spells it."""
    return TensorProto.DataType.Name(kind) if kind is not None else "unknown"


_CONSTANT_TYPES = {
    "value": None,
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def _constant(value: onnx.AttributeProto) -> TensorProto:
    held = helper.get_attribute_value(value)
    if isinstance(held, TensorProto):
        return held
    return numpy_helper.from_array(np.array(held, _CONSTANT_TYPES[value.name]))


def _inferred(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """The model with types and shapes; without those, and why, where it breaks ONNX's own rules."""
    try:
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True), ""
    except Exception as error:  # onnx raises its own class and plain RuntimeError
        return onnx.shape_inference.infer_shapes(model), " ".join(str(error).split())


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for value in node.attribute:
            if value.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(value.g)
