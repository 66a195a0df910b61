"""The inputs and outputs of a bundle's graph, read off its manifest.

The one idea: whoever feeds the graph (ONNX Runtime, TensorRT) or checks it (a verifier, an engine's
builder) asks here, so that the list stands once. A board has no package ``onnx`` to ask.
"""

from typing import List

from merino_edge.formats.engine_spec import Dim, TensorSpec
from merino_edge.formats.manifest import BundleManifest


def graph_tensors(manifest: BundleManifest) -> List[TensorSpec]:
    """Every input, then every output, in the order of the ONNX file."""
    return _inputs(manifest) + _outputs(manifest)


def looks_up(manifest: BundleManifest) -> bool:
    """Whether the graph takes token ids, or else the rows of their embedding."""
    return manifest.engine is None or manifest.engine.looks_up


def _inputs(manifest: BundleManifest) -> List[TensorSpec]:
    spec, width = manifest.kv_cache, manifest.architecture.embed_dim
    tokens = TensorSpec("input_ids", "int32", ("q_len",), True)
    if not looks_up(manifest):
        tokens = TensorSpec("inputs_embeds", spec.dtype, ("q_len", width), True)
    rows = _cache_rows(manifest, "past_key_values", "past_len", True)
    return [
        tokens,
        TensorSpec("position_ids", "int32", ("q_len",), True),
        TensorSpec("logits_indices", "int32", ("n_logits",), True),
        TensorSpec("past_mask", "float32", ("past_len",), True),
    ] + rows


def _outputs(manifest: BundleManifest) -> List[TensorSpec]:
    shape = ("n_logits", manifest.architecture.vocab_size)
    outputs = [TensorSpec("logits", "float32", shape, False)]
    if manifest.engine is not None and manifest.engine.n_best:
        best = ("n_logits", manifest.engine.n_best)
        outputs.append(TensorSpec("best_logits", "float32", best, False))
        outputs.append(TensorSpec("best_ids", "int32", best, False))
    return outputs + _cache_rows(manifest, "present", "q_len", False)


def _cache_rows(
    manifest: BundleManifest, prefix: str, length: Dim, is_input: bool
) -> List[TensorSpec]:
    dtype = manifest.kv_cache.dtype
    return [
        TensorSpec("{}.{}.{}".format(prefix, i, kind), dtype, (length,) + tuple(layer), is_input)
        for i, layer in enumerate(manifest.kv_cache.layers)
        for kind in ("key", "value")
    ]
