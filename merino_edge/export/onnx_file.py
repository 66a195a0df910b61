"""From a checkpoint's weights to ``decoder.onnx`` and the weights file it points into.

The weights file keeps the checkpoint's bytes and order of names; only the layout (page start,
64-byte lines) is ours. In whole numbers it is made from the native file in the same folder, so that
both hold equal numbers. The ONNX file itself holds nodes, small constants and rotary tables.
"""

import os
from collections.abc import Mapping

import numpy as np
import onnx

from merino_edge.errors import SpecError
from merino_edge.export.decoder import build_decoder
from merino_edge.export.graph import FLOAT, FLOAT16, GraphBuilder, Matrices
from merino_edge.export.matrices import Dense, Whole
from merino_edge.export.recipe import HOST, Recipe
from merino_edge.export.whole_weights import write_whole_weights
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.native_file import NATIVE_FILE
from merino_edge.formats.weights import read_index
from merino_edge.formats.whole_weights import whole_forms
from merino_edge.model.checkpoint import write_tensors

ONNX_FILE = "decoder.onnx"
WEIGHTS_FILE = "weights.safetensors"


def export_decoder(
    folder: str,
    a: Architecture,
    tensors: Mapping[str, np.ndarray],
    context_len: int,
    recipe: Recipe = HOST,
) -> onnx.ModelProto:
    """Write ``decoder.onnx`` and ``weights.safetensors`` into a folder.

    Args:
        folder: An existing, private folder; for whole numbers the native file lies in it already.
        a: The decoder.
        tensors: Its weights, by the names of ``formats.weights``.
        context_len: Tokens that the runtime will allow.
        recipe: Precision, and what enters and leaves the graph.

    Returns:
        The model, as written.

    Raises:
        SpecError: The context is longer than the model knows positions, or a weight too large for
            half precision.
        OSError: The disk is full.
    """
    check_context(a, context_len)
    weights_path = os.path.join(folder, WEIGHTS_FILE)
    matrices = _write_weights(weights_path, folder, a, tensors, recipe)
    compute = FLOAT16 if recipe.precision == "fp16" else FLOAT
    builder = GraphBuilder(read_index(weights_path), WEIGHTS_FILE, matrices, compute)
    build_decoder(builder, a, context_len, recipe.looks_up, recipe.n_best)
    model = builder.model("decoder", {"arch_id": a.arch_id, "kv_layout": "sequence-major"})
    onnx_path = os.path.join(folder, ONNX_FILE)
    jsonio.write_bytes_atomic(onnx_path, model.SerializeToString())
    onnx.checker.check_model(onnx_path, full_check=True)
    return model


def _write_weights(
    path: str, folder: str, a: Architecture, tensors: Mapping[str, np.ndarray], recipe: Recipe
) -> Matrices:
    if not recipe.whole:
        write_tensors(path, tensors, recipe.precision)
        return Dense()
    write_whole_weights(path, os.path.join(folder, NATIVE_FILE), a)
    return Whole(whole_forms(read_index(path), a, path))


def check_context(a: Architecture, context_len: int) -> None:
    """Refuse a context that the model has no positions for.

    Raises:
        SpecError: With both numbers.
    """
    if not 1 <= context_len <= a.max_seq_len:
        raise SpecError(
            f"a context of {context_len} tokens is asked for, the model knows {a.max_seq_len}.",
            hint=f"use --context {a.max_seq_len} or less.",
        )
