"""From the ONNX file to TensorRT's network: parsed, its tensors declared, its precision held.

The one idea: TensorRT comes in two kinds. A *strongly typed* network (TensorRT 10 and later, RTX)
computes in the types that the graph's Cast nodes say, and nothing need be added. A *weakly typed*
one (8.x) takes types for hints once half precision is allowed, so every layer that must stay in
float32 is told so, and so are the types of inputs and outputs.

What is assumed of the parser of 8.x, read in its sources: a layer bears the name of its ONNX node;
a second layer of one node bears "NAME_7", with some number; layers that only reshape or broadcast
an operand are nobody's, "(Unnamed Layer* 7) [Shuffle]" or "ONNXTRT_Broadcast". The latter follow
whom they serve: one that feeds a layer in float32 is held to float32, or a value could be rounded
on the way.
"""

import fnmatch
import os
import re
from typing import Any, Dict, List, NamedTuple, Sequence

from merino_edge.errors import EngineError
from merino_edge.formats.engine_spec import TensorSpec
from merino_edge.runtime.engine.door import Library

_HELPERS = ("(Unnamed Layer*", "ONNXTRT_")
_TYPE_NAMES = {"float32": "FLOAT", "float16": "HALF", "int32": "INT32"}


class ParsedNetwork(NamedTuple):
    """A network with all that must stay alive until it is built: the parser owns the weights.

    Attributes:
        builder, definition, parser: TensorRT's objects.
        typed: Whether the network is strongly typed.
    """

    builder: Any
    definition: Any
    parser: Any
    typed: bool


class Float32Layers(NamedTuple):
    """What was held to float32.

    Attributes:
        n_layers: How many layers.
        unmatched: Patterns that no layer's name fits.
    """

    n_layers: int
    unmatched: List[str]


def parse_network(library: Library, onnx_path: str) -> ParsedNetwork:
    """Read an ONNX file, with its weights from the files that it names beside itself.

    Raises:
        EngineError: TensorRT cannot take the graph; with all of the parser's messages.
    """
    trt = library.module
    builder = trt.Builder(library.log)
    flags = creation_flags(trt)
    definition = builder.create_network(flags)
    parser = trt.OnnxParser(definition, library.log)
    if not parser.parse_from_file(os.path.abspath(onnx_path)):
        errors = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
        raise EngineError(
            "TensorRT {} cannot take the graph {}: {}".format(
                library.version_text, onnx_path, "; ".join(errors) or library.log.last_errors()
            ),
            hint="merino-edge verify BUNDLE explains which nodes TensorRT refuses.",
        )
    return ParsedNetwork(builder, definition, parser, is_typed(trt))


def is_typed(trt: Any) -> bool:
    """Whether the networks that we make with this module are strongly typed."""
    # Versions without the flag FP16 (11, RTX) know nothing else.
    strongly = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    return strongly or not hasattr(trt.BuilderFlag, "FP16")


def creation_flags(trt: Any) -> int:
    """Bits for ``create_network``: explicit batch in 8.x, strongly typed in 10, none later."""
    flags = trt.NetworkDefinitionCreationFlag
    if not hasattr(trt.BuilderFlag, "FP16"):
        return 0
    return 1 << int(flags.STRONGLY_TYPED if is_typed(trt) else flags.EXPLICIT_BATCH)


def declare_tensors(library: Library, parsed: ParsedNetwork, tensors: Sequence[TensorSpec]) -> None:
    """Hold the network's inputs and outputs to what the runtime will bind: name, type, shape.

    Raises:
        EngineError: The graph has another tensor, or one of another type or shape.
    """
    net = parsed.definition
    inputs = {t.name: t for t in (net.get_input(i) for i in range(net.num_inputs))}
    outputs = {t.name: t for t in (net.get_output(i) for i in range(net.num_outputs))}
    _check_names("inputs", inputs, [t.name for t in tensors if t.is_input])
    _check_names("outputs", outputs, [t.name for t in tensors if not t.is_input])
    for spec in tensors:
        tensor = (inputs if spec.is_input else outputs)[spec.name]
        _check_shape(spec, tuple(tensor.shape))
        _declare_type(library.module, spec, tensor, parsed.typed)
        # Rows are bound as they lie in memory; no blocked or vectorised layout may be chosen.
        tensor.allowed_formats = 1 << int(library.module.TensorFormat.LINEAR)


def hold_float32(library: Library, parsed: ParsedNetwork, patterns: Sequence[str]) -> Float32Layers:
    """Make the layers of the named nodes compute in float32, where the network is weakly typed.

    Args:
        library: Which TensorRT.
        parsed: The network.
        patterns: Of ONNX node names, as ``fnmatch`` knows them.

    Returns:
        What was held; nothing in a strongly typed network, whose Cast nodes say it already.

    Raises:
        EngineError: There are patterns, and not one layer fits any of them.
    """
    if parsed.typed or not patterns:
        return Float32Layers(0, [])
    trt, net = library.module, parsed.definition
    layers = [net.get_layer(i) for i in range(net.num_layers)]
    matched = [[p for p in patterns if _is_of_node(layer.name, p)] for layer in layers]
    chosen = _with_helpers(layers, [bool(found) for found in matched])
    held = [layer for layer, wanted in zip(layers, chosen) if wanted and _is_float(trt, layer)]
    if not held:
        raise EngineError(
            "no layer of the network fits the patterns of nodes that must compute in float32.",
            note="patterns: {}; layers: {} …".format(
                ", ".join(patterns), ", ".join(layer.name for layer in layers[:5])
            ),
        )
    for layer in held:
        _hold(trt, layer)
    seen = {pattern for found in matched for pattern in found}
    return Float32Layers(len(held), [pattern for pattern in patterns if pattern not in seen])


def _parser_error(error: Any) -> str:
    """One of the parser's errors in a line; later versions also give the node's name."""
    name = error.node_name() if hasattr(error, "node_name") else ""
    where = "node {}{}".format(error.node(), " '{}'".format(name) if name else "")
    return "{}: {} [{}]".format(where, error.desc(), str(error.code()).rpartition(".")[2])


def _check_names(kind: str, found: Dict[str, Any], wanted: List[str]) -> None:
    missing = sorted(set(wanted) - set(found))
    extra = sorted(set(found) - set(wanted))
    if missing or extra:
        parts = ["it lacks " + ", ".join(missing[:5])] if missing else []
        parts += ["nobody fills or reads " + ", ".join(extra[:5])] if extra else []
        raise EngineError(
            "the graph has other {} than the bundle says: {}.".format(kind, "; ".join(parts)),
            hint="merino-edge verify BUNDLE says whether the bundle is intact.",
        )


def _check_shape(spec: TensorSpec, found: Sequence[int]) -> None:
    """Numbers must agree; a named dimension of an input must have been left open."""
    fits = len(found) == len(spec.shape)
    for dim, size in zip(spec.shape, found):
        open_ends = size == -1 or not spec.is_input
        fits = fits and (open_ends if isinstance(dim, str) else size in (dim, -1))
    if not fits:
        raise EngineError(
            "'{}' has shape {} in the graph, the bundle says {}.".format(
                spec.name, list(found), list(spec.shape)
            )
        )


def _declare_type(trt: Any, spec: TensorSpec, tensor: Any, typed: bool) -> None:
    wanted = getattr(trt.DataType, _TYPE_NAMES[spec.dtype])
    if tensor.dtype == wanted:
        return
    floats = (trt.DataType.FLOAT, trt.DataType.HALF)
    if typed or tensor.dtype not in floats or wanted not in floats:
        raise EngineError(
            "'{}' is {} in the graph, the bundle says {}.".format(
                spec.name, str(tensor.dtype).rpartition(".")[2], spec.dtype
            )
        )
    tensor.dtype = wanted


def _is_of_node(layer_name: str, pattern: str) -> bool:
    names = (layer_name, re.sub(r"_\d+$", "", layer_name))
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _with_helpers(layers: Sequence[Any], chosen: List[bool]) -> List[bool]:
    """Choose also the nameless layers that feed chosen ones, directly or through others."""
    chosen = list(chosen)
    maker = {
        layers[i].get_output(k).name: i for i in range(len(layers)) for k in _outputs(layers[i])
    }
    for i in reversed(range(len(layers))):  # a network is in order: who feeds stands before
        for k in range(layers[i].num_inputs if chosen[i] else 0):
            tensor = layers[i].get_input(k)
            feeder = maker.get(tensor.name) if tensor is not None else None
            if feeder is not None and layers[feeder].name.startswith(_HELPERS):
                chosen[feeder] = True
    return chosen


def _outputs(layer: Any) -> Sequence[int]:
    return range(layer.num_outputs)


def _is_float(trt: Any, layer: Any) -> bool:
    """Whether a layer takes and gives floating point: not a shape, an index or a constant."""
    floats = (trt.DataType.FLOAT, trt.DataType.HALF)
    inputs = [layer.get_input(k) for k in range(layer.num_inputs)]
    takes = any(tensor is not None and tensor.dtype in floats for tensor in inputs)
    return takes and any(layer.get_output(k).dtype in floats for k in _outputs(layer))


def _hold(trt: Any, layer: Any) -> None:
    layer.precision = trt.DataType.FLOAT
    for k in _outputs(layer):
        is_float = layer.get_output(k).dtype in (trt.DataType.FLOAT, trt.DataType.HALF)
        # A Cast node has set its own output type, and knows better.
        if is_float and not layer.output_type_is_set(k):
            layer.set_output_type(k, trt.DataType.FLOAT)
