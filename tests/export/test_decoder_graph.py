"""The exported graph is the model, holds each weight once, and costs what ``counting`` says."""

import os

import numpy as np
import onnx
import onnxruntime
import pytest
from doubles import llama_architecture, random_tensors, tiny_architecture
from model_families import FAMILIES as KNOWN
from model_families import MIXTURES
from onnx import numpy_helper

from merino_edge.core import counting
from merino_edge.errors import SpecError, UnsupportedError
from merino_edge.export.bundler import Source, build_bundle
from merino_edge.export.lint.parsers import PARSERS
from merino_edge.export.onnx_file import export_decoder
from merino_edge.export.operators import check_operators
from merino_edge.export.recipe import Recipe
from merino_edge.formats.architecture import BlockSpec
from merino_edge.formats.weights import weight_shapes
from merino_edge.runtime.backends.ort import OrtBackend
from merino_edge.runtime.verify import FP32_TOLERANCE

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

FAMILIES = {
    "merino": tiny_architecture(),
    "merino with a narrow embedding": tiny_architecture(d_embed=12),
    "gelu_tanh": tiny_architecture(activation="gelu_tanh"),
    "relu, untied": tiny_architecture(activation="relu", tie_embeddings=False),
    "llama": llama_architecture(),
    "llama, one kv head": llama_architecture(blocks=(BlockSpec(16, 4, 1, 24, 3),), rope_base=1e5),
    "rope in two head sizes": llama_architecture(
        blocks=(BlockSpec(16, 4, 2, 24, 2), BlockSpec(24, 3, 3, 24, 1))
    ),
    **KNOWN,
    **MIXTURES,
}


def source(architecture, seed=0):
    return Source("tiny", architecture, random_tensors(architecture, seed))


def export(path, architecture, context_len=32):
    os.makedirs(path)
    return export_decoder(str(path), architecture, random_tensors(architecture, 0), context_len)


@pytest.mark.parametrize("family", FAMILIES)
def test_onnx_torch_and_numpy_agree_on_every_family(tmp_path, family):
    # build_bundle itself compares the three and raises ParityError; the figures must be tiny too.
    _, parity = build_bundle(source(FAMILIES[family]), "host", 32, str(tmp_path / "bundle"))

    assert parity.golden_tokens > 0
    assert parity.against_torch.n_rows > 50
    assert parity.against_torch.relative < FP32_TOLERANCE / 10
    assert parity.against_reference.relative < FP32_TOLERANCE / 10


@pytest.mark.parametrize("family", FAMILIES)
def test_prefill_in_chunks_of_any_size_then_decode_equals_one_pass(tmp_path, family):
    architecture = FAMILIES[family]
    bundle, _ = build_bundle(source(architecture), "host", 32, str(tmp_path / "bundle"))
    ids = np.random.RandomState(1).randint(0, architecture.vocab_size, 32)
    backend = OrtBackend(bundle)
    whole = np.array(backend.prefill(ids, all_logits=True))

    for chunk in (1, 2, 5, 31):
        backend.reset()
        parts = [
            np.array(backend.prefill(ids[i : i + chunk], all_logits=True))
            for i in range(0, 32, chunk)
        ]
        bound = 4e-6 * np.abs(whole).max()
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=bound)


def test_reset_and_reuse_equals_fresh(tmp_path):
    bundle, _ = build_bundle(source(FAMILIES["llama"]), "host", 32, str(tmp_path / "bundle"))
    used, fresh = OrtBackend(bundle), OrtBackend(bundle)
    used.prefill(list(range(32)))
    used.reset()

    np.testing.assert_array_equal(used.prefill([7, 8, 9]), fresh.prefill([7, 8, 9]))
    np.testing.assert_array_equal(used.decode(4), fresh.decode(4))


def test_the_largest_logits_do_not_bind_onnx_runtime_to_a_number_of_rows(tmp_path):
    recipe = Recipe(precision="fp32", chunk_len=16, max_logits=16, looks_up=False, n_best=4)
    path = str(tmp_path / "bundle")
    bundle, _ = build_bundle(source(FAMILIES["llama"]), "nano", 32, path, recipe=recipe)
    backend = OrtBackend(bundle)

    for ids in ([1], [2, 3, 4], [5], [6, 7]):
        assert backend.prefill(ids, all_logits=True).shape == (len(ids), 300)


def test_a_block_of_depth_four_is_stored_once(tmp_path):
    shared = tiny_architecture(blocks=(BlockSpec(64, 4, 4, 256, 4),))
    export(tmp_path / "shared", shared)
    stored = counting.n_params(shared) * 4
    weights, graph = (
        os.path.getsize(tmp_path / "shared" / name)
        for name in ("weights.safetensors", "decoder.onnx")
    )

    assert stored < weights < stored + 8192  # one page of header and rounding
    assert graph < 64 << 10  # nodes and small constants: no weight in it
    three_more = 3 * counting.block_matrix_params(shared, 0)
    assert counting.n_params_executed(shared) == counting.n_params(shared) + three_more


@pytest.mark.parametrize("family", FAMILIES)
def test_initializers_are_the_stored_tensors_once_each(tmp_path, family):
    model = export(tmp_path / "x", FAMILIES[family])
    external = {
        t.name: tuple(t.dims)
        for t in model.graph.initializer
        if t.data_location == onnx.TensorProto.EXTERNAL
    }

    assert external == weight_shapes(FAMILIES[family])


@pytest.mark.parametrize("family", FAMILIES)
def test_flops_of_the_running_graph_equal_the_formula(tmp_path, family):
    architecture = FAMILIES[family]
    export(tmp_path / "x", architecture)

    for q_len, past_len, n_logits in ((1, 9, 1), (6, 1, 6), (4, 5, 1)):
        found = flops_of(tmp_path / "x", architecture, q_len, past_len, n_logits)
        assert found == counting.forward_flops(architecture, q_len, past_len + q_len, n_logits)


def flops_of(folder, architecture, q_len, past_len, n_logits):
    """Two per multiply-accumulate of every Gemm and MatMul, from the arrays of a real run."""
    model = onnx.load(str(folder / "decoder.onnx"), load_external_data=False)
    products = [node for node in model.graph.node if node.op_type in ("Gemm", "MatMul")]
    wanted = {name for node in products for name in (node.input[0], node.output[0])}
    wanted -= {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted))
    onnx.save(model, str(folder / "all.onnx"))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(folder / "all.onnx"), options)
    names = [value.name for value in session.get_outputs()]
    feeds = zero_feeds(architecture, q_len, past_len, n_logits)
    arrays = dict(zip(names, session.run(names, feeds), strict=True))
    return sum(
        2 * arrays[node.output[0]].size * arrays[node.input[0]].shape[-1] for node in products
    )


def zero_feeds(architecture, q_len, past_len, n_logits):
    """Inputs of the right shapes."""
    feeds = {
        "input_ids": np.zeros(q_len, np.int32),
        "position_ids": np.arange(q_len, dtype=np.int32),
        "logits_indices": np.zeros(n_logits, np.int32),
        "past_mask": np.zeros(past_len, np.float32),
    }
    for i, (_, _, block) in enumerate(architecture.layers()):
        for kind in ("key", "value"):
            shape = (past_len, block.n_kv_head, block.head_dim)
            feeds[f"past_key_values.{i}.{kind}"] = np.zeros(shape, np.float32)
    return feeds


def test_kv_cache_spec_is_what_the_graph_declares(tmp_path):
    architecture = FAMILIES["llama"]
    model = export(tmp_path / "x", architecture)
    rows = [
        tuple(d.dim_value for d in v.type.tensor_type.shape.dim)[1:]
        for v in model.graph.input
        if v.name.endswith(".key")
    ]

    assert rows == counting.kv_cache_spec(architecture, 32).layers


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", PARSERS)
def test_every_family_keeps_to_every_targets_operators(tmp_path, family, target):
    check_operators(export(tmp_path / "x", FAMILIES[family]), target)


def test_ids_are_int32_and_masks_are_finite_in_half_precision(tmp_path):
    model = export(tmp_path / "x", FAMILIES["merino"])
    dtypes = {v.name: v.type.tensor_type.elem_type for v in model.graph.input}
    assert {dtypes[n] for n in ("input_ids", "position_ids", "logits_indices")} == {
        onnx.TensorProto.INT32
    }
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL and tensor.data_type == 1:
            assert np.isfinite(numpy_helper.to_array(tensor).astype(np.float16)).all(), tensor.name


def test_a_foreign_operator_is_named_with_its_node(tmp_path):
    model = export(tmp_path / "x", FAMILIES["merino"])
    model.graph.node[5].op_type = "Trilu"

    with pytest.raises(UnsupportedError, match=f"'{model.graph.node[5].name}' is a Trilu"):
        check_operators(model, "nano")


def test_a_later_opset_is_refused_with_both_numbers(tmp_path):
    model = export(tmp_path / "x", FAMILIES["merino"])
    model.opset_import[0].version = 18

    with pytest.raises(UnsupportedError, match=r"opset 18 .* up to 13"):
        check_operators(model, "host")


def test_a_context_longer_than_the_model_is_refused_with_both_numbers(tmp_path):
    with pytest.raises(SpecError, match=r"49 tokens .* knows 48"):
        export(tmp_path / "x", FAMILIES["merino"], context_len=49)
