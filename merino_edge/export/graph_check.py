"""The graph inside a bundle, checked against its manifest and against a target's rules.

An ONNX file can point anywhere, so before anything runs: every stored weight must be one
external initializer, at the place the weights file's own header gives, and nothing else may be
external. Inputs and outputs must be the cache that the manifest describes.
"""

import os

import numpy as np
import onnx
from onnx import helper

from merino_edge.errors import FormatError
from merino_edge.export.graph import RESHAPED
from merino_edge.export.recipe import WHOLE
from merino_edge.export.tensorrt_rules import Finding, lint
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.engine_spec import shape_profiles
from merino_edge.formats.graph_tensors import graph_tensors, looks_up
from merino_edge.formats.weights import TensorEntry, check_names, read_index
from merino_edge.formats.whole_weights import whole_forms


def check_graph(bundle: Bundle) -> str:
    """Check that ``decoder.onnx`` is what the manifest says; returns a line for people.

    Raises:
        FormatError: Not ONNX, or it does not fit the manifest or the weights file.
    """
    model = read_graph(bundle.file("onnx"))
    n_weights = _check_weights(bundle, model)
    _check_tensors(bundle, model)
    kinds = {node.op_type for node in model.graph.node}
    return f"{len(model.graph.node)} nodes of {len(kinds)} kinds, {n_weights} weights stored once"


def lint_bundle(bundle: Bundle, target: str) -> list[Finding]:
    """What a target's parser or builder has against a bundle's graph; see ``tensorrt_rules``.

    Raises:
        FormatError: Not ONNX.
        UnsupportedError: There are no rules for the target.
    """
    manifest, path = bundle.manifest, bundle.file("onnx")
    profiles, fp32_nodes = None, None
    if manifest.engine is not None:
        profiles = shape_profiles(manifest.engine, manifest.kv_cache.buckets)
        fp32_nodes = manifest.engine.fp32_nodes
    return lint(
        read_graph(path), target, profiles, fp32_nodes, manifest.precision == "fp16", bundle.path
    )


def lint_file(path: str, target: str) -> list[Finding]:
    """The same for an ONNX file that belongs to no bundle."""
    return lint(read_graph(path), target, folder=os.path.dirname(os.path.abspath(path)))


def read_graph(path: str) -> onnx.ModelProto:
    """The model, without its external weights.

    Raises:
        FormatError: Not a valid ONNX file.
    """
    if not os.path.isfile(path):
        raise FormatError("the file does not exist.", path)
    try:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(path)
    except Exception as error:  # protobuf's and onnx's errors share no base class
        raise FormatError(f"not a valid ONNX file: {error}", path) from error
    return model


def _check_weights(bundle: Bundle, model: onnx.ModelProto) -> int:
    weights_path = bundle.file("weights")
    entries = read_index(weights_path)
    _check_stored(bundle, entries, weights_path)
    if not _reads_table(bundle):
        entries.pop("embed.weight", None)
    external, expected = _external(model), _places(entries, os.path.basename(weights_path))
    named = {name.removesuffix(RESHAPED) for name in external}
    for name in sorted(set(external) | (set(expected) - named)):
        if external.get(name) != expected.get(name.removesuffix(RESHAPED)):
            raise FormatError(
                f"the graph reads this weight from {external.get(name)}, "
                f"the weights file has it at {expected.get(name.removesuffix(RESHAPED))}.",
                bundle.file("onnx"),
                name,
            )
    return len(expected)


def _external(model: onnx.ModelProto) -> dict[str, dict[str, str]]:
    """Where the graph says that its weights lie."""
    return {
        tensor.name: {item.key: item.value for item in tensor.external_data}
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }


def _places(entries: dict[str, TensorEntry], location: str) -> dict[str, dict[str, str]]:
    """Where they lie, in a graph's words."""
    return {
        name: {"location": location, "offset": str(entry.offset), "length": str(entry.n_bytes)}
        for name, entry in entries.items()
    }


def _check_stored(bundle: Bundle, entries: dict[str, TensorEntry], path: str) -> None:
    architecture = bundle.manifest.architecture
    if bundle.manifest.precision in WHOLE:
        whole_forms(entries, architecture, path)
    else:
        check_names({n: e.shape for n, e in entries.items()}, architecture, path)


def _reads_table(bundle: Bundle) -> bool:
    """Whether the embedding is a weight of the graph, not only rows that enter it."""
    return looks_up(bundle.manifest) or bundle.manifest.architecture.tie_embeddings


def _check_tensors(bundle: Bundle, model: onnx.ModelProto) -> None:
    """Names, types and shapes of what enters and leaves."""
    graph = model.graph
    found = {v.name: _described(v) for v in [*graph.input, *graph.output]}
    expected = {
        t.name: (helper.np_dtype_to_tensor_dtype(np.dtype(t.dtype)), t.shape)
        for t in graph_tensors(bundle.manifest)
    }
    for name in [*expected, *found]:
        if found.get(name) != expected.get(name):
            raise FormatError(
                f"the graph has {_spelled(found.get(name))}, "
                f"the manifest says {_spelled(expected.get(name))}.",
                bundle.file("onnx"),
                name,
            )


def _described(value: onnx.ValueInfoProto) -> tuple[int, tuple[int | str, ...]]:
    kind = value.type.tensor_type
    return kind.elem_type, tuple(dim.dim_param or dim.dim_value for dim in kind.shape.dim)


def _spelled(described: tuple[int, tuple[int | str, ...]] | None) -> str:
    if described is None:
        return "no such tensor"
    dtype, shape = described
    return f"{onnx.TensorProto.DataType.Name(dtype)} {list(shape)}"
