"""Rules about tensors: types, integers that do not fit, shapes, profiles, names, files.

INT64 deserves a word. TensorRT before 9 turns it into INT32 on the way in: weights are clamped,
which is harmless for a Slice that ends at INT64_MAX (starts and ends are clamped to the dimension
anyway, decodeOnnxStartsAndEnds), so that one is allowed; and an input of INT64 becomes a binding of
INT32, into which eight bytes a number would be copied.
"""

import os
from collections import Counter

import numpy as np
from onnx import TensorProto

from merino_edge.export.lint.graph import (
    LintGraph,
    external_facts,
    n_bytes,
    name_of,
    type_name,
)
from merino_edge.export.lint.rule import ALL_KINDS, CHANGELOG, UTILS_8_2, Problems, rule

MAX_RANK = 8
_INT32 = np.iinfo(np.int32)
_EXTERNAL_KEYS = {"location", "offset", "length", "checksum"}


@rule(
    "inference",
    refuses="a graph that ONNX's own strict type inference refuses",
    why="no parser can be expected to take it.",
    source="onnx.shape_inference, strict mode",
    kinds=ALL_KINDS,
)
def inference(graph: LintGraph) -> Problems:
    """An operator that the opset lacks is left to the rule about operators."""
    if graph.inference_error and "No Op registered" not in graph.inference_error:
        yield "", graph.inference_error


@rule(
    "tensor-type",
    refuses="a type that TensorRT has no tensors of (8: UINT8, INT16, ...)",
    why="the parser does not convert it.",
    source=f"{UTILS_8_2}, convertDtype; {CHANGELOG}",
)
def tensor_type(graph: LintGraph) -> Problems:
    """Inputs, outputs, weights, and all that lies between."""
    for name, kind in graph.types.items():
        if kind and kind not in graph.parser.tensor_types:
            yield name, f"tensor '{name}' is {type_name(kind)}."


@rule(
    "double",
    refuses="DOUBLE anywhere",
    why="it becomes FLOAT, and a binding of it takes other bytes than its caller thinks.",
    source=f"{UTILS_8_2}, convertDtype and convertDouble",
)
def double(graph: LintGraph) -> Problems:
    """A cast to DOUBLE is of no use either."""
    for name, kind in graph.types.items():
        if kind == TensorProto.DOUBLE:
            yield name, f"tensor '{name}' is DOUBLE."


@rule(
    "int64-binding",
    refuses="an input or output of INT64",
    why="it becomes a binding of INT32; int64 bytes copied into it are other numbers.",
    source=f"{UTILS_8_2}, convertDtype; {CHANGELOG} (9.0 has INT64)",
    until=(9, 0),
)
def int64_binding(graph: LintGraph) -> Problems:
    """Declare it INT32; a Cast in the graph costs nothing there."""
    for value in graph.bindings:
        if value.type.tensor_type.elem_type == TensorProto.INT64:
            yield value.name, f"'{value.name}' is INT64, declare it INT32."


@rule(
    "int64-range",
    refuses="an INT64 constant beyond int32, unless it is where a Slice starts or ends",
    why="it is clamped to int32, with a warning that is easily missed.",
    source=f"{UTILS_8_2}, convertINT64 and decodeOnnxStartsAndEnds",
    until=(9, 0),
)
def int64_range(graph: LintGraph) -> Problems:
    """Looks at inline constants, and at external ones where the folder is known."""
    for name, tensor in graph.constants.items():
        if tensor.data_type != TensorProto.INT64:
            continue
        values = graph.array(tensor)
        readers = [(node.op_type, position) for node, position in graph.consumers[name]]
        if values is None or not values.size or all(r in _SLICE_ENDS for r in readers):
            continue
        if values.max() > _INT32.max or values.min() < _INT32.min:
            yield name, f"constant '{name}' reaches from {values.min()} to {values.max()}."


_SLICE_ENDS = {("Slice", 1), ("Slice", 2)}


@rule(
    "half-storage",
    refuses="a float16 initializer in int32_data instead of raw_data",
    why="the parser reads the four-byte fields as if two bytes each.",
    source=f"{UTILS_8_2}, convertOnnxWeights",
    until=(8, 4),
)
def half_storage(graph: LintGraph) -> Problems:
    """``onnx.numpy_helper.from_array`` writes raw_data; hand-made tensors may not."""
    for name, tensor in graph.constants.items():
        if tensor.data_type == TensorProto.FLOAT16 and tensor.int32_data:
            yield name, f"float16 constant '{name}' lies in int32_data."


@rule(
    "rank",
    refuses=f"a tensor of more than {MAX_RANK} dimensions",
    why="Dims::MAX_DIMS is 8.",
    source=f"{UTILS_8_2}, unsqueezeTensor and importTranspose assert it",
)
def rank(graph: LintGraph) -> Problems:
    """Of any tensor in the graph."""
    for name, shape in graph.shapes.items():
        if len(shape) > MAX_RANK:
            yield name, f"tensor '{name}' has {len(shape)} dimensions."


@rule(
    "empty-dimension",
    refuses="a dimension of length 0, in a shape or in a profile",
    why="TensorRT 7 refused it, 8's header and Python documentation disagree about it, and a "
    "binding without bytes still needs an address.",
    source="TensorRT 8.2.1 NvInfer.h and Python documentation; NVIDIA/TensorRT issues 337, 2857",
    until=(10, 0),
)
def empty_dimension(graph: LintGraph) -> Problems:
    """A past of no tokens is the case in point: keep a hidden row."""
    for name, shape in graph.shapes.items():
        if 0 in shape and name not in _empty_inputs_of_resize(graph):
            yield name, f"tensor '{name}' has the shape {list(shape)}."
    for profile in graph.profiles or ():
        for name, lengths in profile.dims.items():
            if min(lengths) < 1:
                yield name, f"dimension '{name}' of profile '{profile.name}' may be {min(lengths)}."


def _empty_inputs_of_resize(graph: LintGraph) -> set[str]:
    """An empty constant stands for a missing input there, by the standard."""
    return {n for node in graph.nodes if node.op_type == "Resize" for n in node.input[1:]}


@rule(
    "profile",
    refuses="an input whose lengths a profile does not give, or gives out of order",
    why="the builder needs a smallest, best and largest length of every dimension that varies. "
    "Dimensions of one name have one length: 8.2 asserts it, and a profile has one range a name.",
    source="TensorRT 8.2.1 NvInfer.h, IOptimizationProfile; NVIDIA/TensorRT issue 1808",
)
def profile(graph: LintGraph) -> Problems:
    """Nothing to say where profiles are not known."""
    for each in graph.profiles or ():
        for name, (low, best, high) in each.dims.items():
            if not low <= best <= high:
                yield name, f"profile '{each.name}' gives '{name}' {low} <= {best} <= {high}."
        for value in graph.inputs:
            for dim in value.type.tensor_type.shape.dim:
                if not dim.HasField("dim_value") and dim.dim_param not in each.dims:
                    length = f"'{dim.dim_param}'" if dim.dim_param else "without a name"
                    what = f"a length {length} of '{value.name}' is not in profile '{each.name}'."
                    yield value.name, what


@rule(
    "duplicate-name",
    refuses="two nodes, or a node and a weight, of one name",
    why="layers are named after both; the second is renamed, and a precision by name misses it.",
    source="onnx-tensorrt release/8.2-GA, ImporterContext.hpp, registerLayer; "
    f"{UTILS_8_2}, convertToTensor",
)
def duplicate_name(graph: LintGraph) -> Problems:
    """Nodes without a name are named after their output, which is unique."""
    names = Counter(name_of(node) for node in graph.nodes)
    weights = {tensor.name for tensor in graph.initializers}
    for name, count in names.items():
        if count > 1:
            yield name, f"{count} nodes are called '{name}'."
        elif name in weights:
            yield name, f"a node and a weight are called '{name}'."


@rule(
    "profile-in-name",
    refuses="an input or output with ' [profile ' in its name",
    why="TensorRT 8 marks the bindings of further profiles that way.",
    source="TensorRT 8.2.1 NvInferRuntime.h, ICudaEngine::getBindingIndex",
    until=(10, 0),
)
def profile_in_name(graph: LintGraph) -> Problems:
    """Bindings are found by name."""
    for value in graph.bindings:
        if " [profile " in value.name:
            yield value.name, f"'{value.name}' looks like a binding of another profile."


@rule(
    "protobuf-size",
    refuses="a model file of 2 GiB and more",
    why="protobuf cannot read it; let weights lie outside.",
    source="onnx.checker.MAXIMUM_PROTOBUF; TensorRT's parser reads protobuf too",
    kinds=ALL_KINDS,
)
def protobuf_size(graph: LintGraph) -> Problems:
    """Types cannot be inferred then, so few other rules speak."""
    if graph.too_large:
        yield "", f"the model holds {graph.inline_bytes} bytes of weights."


@rule(
    "external-data",
    refuses="weights outside the bundle's folder, missing or of another length",
    why="a bundle must hold all it needs; 8.2 reads location, offset and length, and no other.",
    source=f"{UTILS_8_2}, convertOnnxWeights; onnx docs/ExternalData.md",
    kinds=ALL_KINDS,
)
def external_data(graph: LintGraph) -> Problems:
    """Files are looked at where the folder is known."""
    for tensor in graph.initializers:
        if tensor.data_location == TensorProto.EXTERNAL:
            what = _external_fault(tensor, graph.folder)
            if what:
                yield tensor.name, f"weight '{tensor.name}' {what}."


def _external_fault(tensor: TensorProto, folder: str | None) -> str:
    facts = external_facts(tensor)
    location, odd = facts.get("location", ""), sorted(facts.keys() - _EXTERNAL_KEYS)
    if odd:
        return f"has an unknown fact '{odd[0]}'"
    if not location or os.path.isabs(location) or ".." in location.split("/"):
        return f"lies at '{location}'"
    if int(facts.get("length", n_bytes(tensor))) != n_bytes(tensor):
        return f"has {facts['length']} bytes, its shape needs {n_bytes(tensor)}"
    if folder is None:
        return ""
    path = os.path.join(folder, location)
    end = int(facts.get("offset", 0)) + n_bytes(tensor)
    if not os.path.isfile(path):
        return f"lies in '{location}', which is not there"
    if os.path.getsize(path) < end:
        return f"ends at byte {end} of '{location}', which has {os.path.getsize(path)}"
    return ""


RULES = (
    inference,
    tensor_type,
    double,
    int64_binding,
    int64_range,
    half_storage,
    rank,
    empty_dimension,
    profile,
    duplicate_name,
    profile_in_name,
    protobuf_size,
    external_data,
)
