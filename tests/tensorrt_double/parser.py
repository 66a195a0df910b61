"""OnnxParser: from an ONNX file to a network, or to a list of errors.

The one idea: parse functions give a bool and never raise; what was wrong stands in ``get_error``
and in the log. Types and shapes between the nodes come from ONNX's own inference.
"""

import os

import onnx
from onnx import shape_inference

from . import parser_rules
from .filling import Filling, value_types
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
        # Operators first: ONNX's inference knows nothing of some, and may stumble.
        if self._any_refused(model.graph, {}):
            return False
        return self._fill(source, shape_inference.infer_shapes(model).graph)

    def _fill(self, source, graph):
        types = value_types(graph)
        if parser_rules.needs_int64_warning(self._trt, types):
            self._trt.log(self._logger, "WARNING", NARROWED)
        if self._any_refused(graph, types):
            return False
        self._network._onnx = source
        self._network._name = graph.name
        Filling(self._trt, self._network, graph, types).run()
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
