"""OnnxParser: from an ONNX file to a network, or to a list of errors.

The one idea: parse functions give a bool and never raise; what was wrong stands in ``get_error``
and in the log. Types and shapes between the nodes come from ONNX's own inference.
"""

import os

import onnx
from onnx import shape_inference

from . import parser_rules
from .dtypes import dtype_from_onnx
from .layer_types import layer_type
from .logger import ready
from .onnx_source import OnnxSource, source_from_bytes
from .surface import integer, want

IMPLICIT = (
    "Assertion failed: !_importer_ctx.network()->hasImplicitBatchDimension() && This version of "
    "the ONNX parser only supports TensorRT INetworkDefinitions with an explicit batch dimension. "
    "Please ensure the network was created using the EXPLICIT_BATCH NetworkDefinitionCreationFlag."
)
NARROWED = (
    "onnx2trt_utils.cpp: Your ONNX model has been generated with INT64 weights, while TensorRT "
    "does not natively support INT64. Attempting to cast down to INT32."
)


class ParserError:
    """One thing the parser refused."""

    def code(self):
        return self._trt.enum("ErrorCode", self._code)

    def desc(self):
        return self._text

    def node(self):
        return self._node

    def node_name(self):
        return self._node_name

    def node_operator(self):
        return self._operator

    def file(self):
        return "ModelImporter.cpp"

    def func(self):
        return "parseGraph"

    def line(self):
        return 0

    def __str__(self):
        return f"In node {self._node} (parseGraph): {self._code}: {self._text}"

    __repr__ = __str__


class OnnxParser:
    """Fills the network it was made for."""

    def __init__(self, network, logger):
        self._network = want(network, self._trt.classes["INetworkDefinition"], "OnnxParser()")
        self._logger = ready(self._trt, logger)
        self._errors = []

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[integer(index, "get_error()")]

    def clear_errors(self):
        self._errors = []

    def parse_from_file(self, model):
        want(model, str, "parse_from_file()")
        if not os.path.isfile(model):
            return self._refuse("INVALID_VALUE", f"Failed to open file: {model}")
        return self._import(OnnxSource(os.path.abspath(model)))

    def parse(self, model, path=None):
        data = bytes(memoryview(model))
        return self._import(source_from_bytes(data, path))

    def _import(self, source):
        message = self._trt.faults.due("parse")
        if message is not None:
            return self._refuse("INTERNAL_ERROR", message)
        if not self._network._is_explicit:
            return self._refuse("INVALID_VALUE", IMPLICIT)
        try:
            model = onnx.load_model_from_string(source.read())
        except Exception:
            return self._refuse("MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model")
        for words in (_opset_refusal(self._trt, model), missing_weights(model, source.folder)):
            if words:
                return self._refuse("INVALID_GRAPH", words)
        return self._fill(source, shape_inference.infer_shapes(model).graph)

    def _fill(self, source, graph):
        types = value_types(graph)
        if parser_rules.needs_int64_warning(self._trt, types):
            self._trt.log(self._logger, "WARNING", NARROWED)
        if self._any_refused(graph, types):
            return False
        self._network._onnx = source
        self._network._name = graph.name
        _Filling(self._trt, self._network, graph, types).run()
        return True

    def _any_refused(self, graph, types):
        constants = {each.name for each in graph.initializer}
        constants |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
        for index, node in enumerate(graph.node):
            found = parser_rules.refusal(self._trt, node, types, constants)
            if found is not None:
                self._refuse(found[0], found[1], index, node)
                if self._trt.release < (10,):  # later ones collect every error of the model
                    return True
        return bool(self._errors)

    def _refuse(self, code, text, index=-1, node=None):
        error = self._trt.classes["ParserError"]._new(
            _code=code,
            _text=text,
            _node=index,
            _node_name=node.name if node else "",
            _operator=node.op_type if node else "",
        )
        self._errors.append(error)
        where = ""
        if node:
            where = f'While parsing node number {index} [{node.op_type} -> "{node.output[0]}"]: '
        return self._trt.fail(self._logger, f"ModelImporter.cpp: {where}{error}", False)


class _Filling:
    """Makes the tensors and layers of a graph that was accepted."""

    def __init__(self, library, network, graph, types):
        self._library = library
        self._network = network
        self._graph = graph
        self._types = types
        self._shapes = {each.name: each for each in _declared(graph)}
        self._tensors = {}

    def run(self):
        stored = {each.name for each in self._graph.initializer}
        self._network._inputs = [
            self._tensor(each.name, "input")
            for each in self._graph.input
            if each.name not in stored
        ]
        results = {each.name for each in self._graph.output}
        for node in self._graph.node:
            for name in node.output:
                self._tensor(name, "output" if name in results else None)
        self._network._outputs = [self._tensor(each.name) for each in self._graph.output]
        self._network._layers = [self._layer(*each) for each in enumerate(self._graph.node)]

    def _tensor(self, name, role=None):
        if name not in self._tensors:
            numbers, names = _dims_of(self._shapes.get(name))
            self._tensors[name] = self._library.classes["ITensor"]._new(
                _network=self._network,
                _name=name,
                _onnx_type=self._types.get(name),
                _dtype=dtype_from_onnx(self._library, self._types.get(name)) or "FLOAT",
                _shape=numbers,
                _dim_names=names,
                _role=role,
                _formats=0xFFFFFFFF,
            )
        return self._tensors[name]

    def _layer(self, index, node):
        kind = layer_type(self._library, node.op_type)
        outputs = [self._tensor(name) for name in node.output]
        casts = node.op_type == "Cast" and not self._network._is_strong
        return self._library.classes["ILayer"]._new(
            _network=self._network,
            _name=node.name or f"(Unnamed Layer* {index}) [{kind}]",
            _type=kind,
            _operator=node.op_type,
            _inputs=[self._tensor(name) for name in node.input if name],
            _outputs=outputs,
            _precision=None,
            _output_types={0: outputs[0]._dtype} if casts else {},
        )


def _declared(graph):
    return list(graph.value_info) + list(graph.input) + list(graph.output)


def _dims_of(value_info):
    if value_info is None:
        return [], []
    numbers, names = [], []
    for dim in value_info.type.tensor_type.shape.dim:
        numbers.append(dim.dim_value if dim.HasField("dim_value") else -1)
        names.append(dim.dim_param or None)
    return numbers, names


def value_types(graph):
    """Name of a value -> its ONNX type."""
    types = {each.name: each.type.tensor_type.elem_type for each in _declared(graph)}
    types.update((each.name, each.data_type) for each in graph.initializer)
    return types


def missing_weights(model, folder):
    """Words of refusal if external weights are not there, or too short; else None."""
    for tensor in model.graph.initializer:
        facts = {each.key: each.value for each in tensor.external_data}
        if not facts:
            continue
        path = os.path.join(folder, facts["location"])
        end = int(facts.get("offset", 0)) + int(facts.get("length", 0))
        if not os.path.isfile(path) or os.path.getsize(path) < end:
            return f"Failed to open file: {path} (weights of {tensor.name})"
    return None


def _opset_refusal(library, model):
    for opset in model.opset_import:
        words = opset.domain in ("", "ai.onnx") and parser_rules.check_opset(library, opset.version)
        if words:
            return words
    return None
