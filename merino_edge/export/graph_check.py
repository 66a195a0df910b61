"""The graph inside a bundle, checked against its manifest: operators, weights, names.

An ONNX file can point anywhere, so before anything runs: every stored weight must be one
external initializer, at the place the weights file's own header gives, and nothing else may be
external. Inputs and outputs must be the cache that the manifest describes.
"""

import os

import onnx

from merino_edge.errors import FormatError
from merino_edge.export.operators import check_operators, operators_of
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.weights import check_names, read_index


def check_graph(bundle: Bundle) -> str:
    """Check ``decoder.onnx``; returns a line for people.

    Raises:
        FormatError: Not ONNX, or it does not fit the manifest or the weights file.
        UnsupportedError: An operator that the target does not take.
    """
    path = bundle.file("onnx")
    try:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(path)
    except Exception as error:  # protobuf's and onnx's errors share no base class
        raise FormatError(f"not a valid ONNX file: {error}", path) from error
    check_operators(model, bundle.manifest.target)
    n_weights = _check_weights(bundle, model)
    _check_cache_names(bundle, model)
    kinds = operators_of(model)
    return f"{len(model.graph.node)} nodes of {len(kinds)} kinds, {n_weights} weights stored once"


def _check_weights(bundle: Bundle, model: onnx.ModelProto) -> int:
    weights_path = bundle.file("weights")
    entries = read_index(weights_path)
    check_names(
        {n: e.shape for n, e in entries.items()}, bundle.manifest.architecture, weights_path
    )
    external = {
        tensor.name: {item.key: item.value for item in tensor.external_data}
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    expected = {
        name: {
            "location": os.path.basename(weights_path),
            "offset": str(entry.offset),
            "length": str(entry.n_bytes),
        }
        for name, entry in entries.items()
    }
    for name in sorted(set(expected) | set(external)):
        if external.get(name) != expected.get(name):
            raise FormatError(
                f"the graph reads this weight from {external.get(name)}, "
                f"the weights file has it at {expected.get(name)}.",
                bundle.file("onnx"),
                name,
            )
    return len(expected)


def _check_cache_names(bundle: Bundle, model: onnx.ModelProto) -> None:
    layers = range(len(bundle.manifest.kv_cache.layers))
    rows = [f"{i}.{kind}" for i in layers for kind in ("key", "value")]
    inputs = ["input_ids", "position_ids", "logits_indices", "past_mask"]
    inputs += [f"past_key_values.{row}" for row in rows]
    outputs = ["logits"] + [f"present.{row}" for row in rows]
    for kind, found, expected in (
        ("inputs", model.graph.input, inputs),
        ("outputs", model.graph.output, outputs),
    ):
        names = {value.name for value in found}
        if names != set(expected):
            odd = sorted(names ^ set(expected))[0]
            raise FormatError(
                f"the {kind} are not those of the manifest's cache.", bundle.file("onnx"), odd
            )
