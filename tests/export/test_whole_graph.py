"""A graph in whole numbers has the native file's numbers, and only activations are rounded."""

import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from doubles import (
    edit_manifest,
    llama_architecture,
    native_bundle,
    random_tensors,
    tiny_architecture,
)
from real_model import smollm2_path
from test_decoder_graph import FAMILIES

from merino_edge.cli.main import main
from merino_edge.errors import FormatError, MissingDependencyError, ParityError
from merino_edge.export.bundler import Source, build_bundle
from merino_edge.export.graph import FLOAT, RESHAPED, GraphBuilder
from merino_edge.export.graph_check import check_graph
from merino_edge.export.matrices import Whole
from merino_edge.export.native_pack import pack
from merino_edge.export.onnx_file import export_decoder
from merino_edge.export.quantise import dequantise, quantise
from merino_edge.export.recipe import RECIPES, in_precision
from merino_edge.export.rounding_check import check_rounding
from merino_edge.export.whole_weights import whole_zeros, write_whole_weights
from merino_edge.formats.architecture import BlockSpec
from merino_edge.formats.bundle import file_entries
from merino_edge.formats.native_file import read_tensors
from merino_edge.formats.weights import read_index, weight_shapes
from merino_edge.formats.whole_weights import whole_forms
from merino_edge.runtime.backends.ort import OrtBackend, _require_whole_numbers
from merino_edge.runtime.open import load
from merino_edge.runtime.verify import WHOLE_TOLERANCE, compare_logits, reference_logits
from merino_edge.runtime.whole_map import WholeWeights, check_same_numbers

pytestmark = [pytest.mark.torch, pytest.mark.onnx]
DOWN = "blocks.0.ffn.down.weight"


def from_free_blocks(architecture, seed=0):
    """Random weights that lie on 16 steps between each block's ends, as those of a Q4_1 file."""
    tensors = random_tensors(architecture, seed)
    for name, shape in weight_shapes(architecture).items():
        if len(shape) == 2 and ".weight" in name and "embed" not in name:
            blocks = np.pad(tensors[name], ((0, 0), (0, -shape[1] % 32)))
            blocks = blocks.reshape(shape[0], -1, 32)
            low = blocks.min(axis=2, keepdims=True).astype(np.float16).astype(np.float32)
            step = ((blocks.max(axis=2, keepdims=True) - low) / 15).astype(np.float16)
            steps = np.clip(np.rint((blocks - low) / step.astype(np.float32)), 0, 15)
            rows = (steps * step.astype(np.float32) + low).reshape(shape[0], -1)
            tensors[name] = np.ascontiguousarray(rows[:, : shape[1]])
    return tensors


def write_files(folder, architecture, tensors, precision):
    native, weights = str(folder / "model.merino"), str(folder / "weights.safetensors")
    pack(native, architecture, tensors, precision)
    write_whole_weights(weights, native, architecture)
    return native, weights


def build(tmp_path, architecture, tensors, precision):
    recipe = in_precision(RECIPES["host"], precision)
    source, path = Source("tiny", architecture, tensors), str(tmp_path / "bundle")
    return build_bundle(source, "host", 32, path, recipe=recipe)


def to_int8(x):
    """What activations become: whole numbers of 8 bits with one scale for a block of 32."""
    blocks = np.pad(x, ((0, 0), (0, -x.shape[1] % 32))).reshape(len(x), -1, 32)
    scales = np.abs(blocks).max(axis=2, keepdims=True) / np.float32(127)
    return (np.rint(blocks / scales) * scales).reshape(len(x), -1)[:, : x.shape[1]]


@pytest.mark.parametrize("width", [32, 40, 96])
@pytest.mark.parametrize("kind", ["int8", "whole zeros", "offsets"])
def test_a_product_rounds_the_other_factor_and_nothing_else(tmp_path, kind, width):
    block = BlockSpec(d_model=16, n_head=2, n_kv_head=2, d_ff=width, depth=1)
    architecture = tiny_architecture(blocks=(block,))
    tensors = (from_free_blocks if kind == "offsets" else random_tensors)(architecture, 0)
    precision = "int8" if kind == "int8" else "int4"
    _, path = write_files(tmp_path, architecture, tensors, precision)
    forms = whole_forms(read_index(path), architecture, path)
    assert forms[DOWN].has_offsets == (kind == "offsets")
    g = GraphBuilder(read_index(path), "weights.safetensors", Whole(forms))
    g.input("x", FLOAT, ["q", width])
    g.product("/product", "x", DOWN, "blocks.0.ffn.down.bias", output="y")
    g.output("y", FLOAT, ["q", 16])
    onnx.save(g.model("one product", {}), str(tmp_path / "product.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "product.onnx"))
    x = np.random.RandomState(1).standard_normal((5, width)).astype(np.float32)

    found = session.run(None, {"x": x})[0]

    matrix, offsets = WholeWeights(path, architecture).matrix(DOWN).values, 0.0
    if kind == "offsets":
        per_block = WholeWeights(path, architecture).plain(DOWN + ".offsets")
        offsets = np.repeat(per_block.T, 32, axis=1)[:, :width]
    bias = tensors["blocks.0.ffn.down.bias"]
    exact, rounded = x @ matrix.T + bias, to_int8(x) @ (matrix - offsets).T + bias
    rounded += x @ np.broadcast_to(offsets, matrix.shape).T
    np.testing.assert_allclose(found, rounded, atol=1e-5)
    assert 1e-4 < np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)) < 1e-2


@pytest.mark.usefixtures("native_library")
@pytest.mark.parametrize("weights", [random_tensors, from_free_blocks])
@pytest.mark.parametrize(("precision", "bits_of_words"), [("int4", 8), ("int4-all", 4)])
@pytest.mark.parametrize("family", FAMILIES)
def test_native_and_onnx_runtime_differ_by_the_rounding_of_activations(
    tmp_path, family, precision, bits_of_words, weights
):
    architecture = FAMILIES[family]
    bundle, parity = build(tmp_path, architecture, weights(architecture, 0), precision)

    # build_bundle itself holds each backend to torch, to numpy and to the other.
    assert {e.role for e in bundle.manifest.files.values()} == {"native", "onnx", "weights"}
    assert parity.golden_tokens > 0
    assert 0 < parity.between.rms < WHOLE_TOLERANCE / 2
    assert "weights stored once" in check_graph(bundle)
    forms = WholeWeights(bundle.file("weights"), architecture).forms
    expected = weights is from_free_blocks
    assert forms[DOWN].has_offsets == expected
    assert forms["embed.weight"].bits == bits_of_words
    assert not forms["embed.weight"].has_offsets  # its operator of a graph knows none


def test_the_numbers_of_the_graph_are_those_of_the_quantiser(tmp_path):
    architecture = tiny_architecture(d_embed=12)
    tensors = from_free_blocks(architecture) | {DOWN: random_tensors(architecture, 1)[DOWN]}
    _, path = write_files(tmp_path, architecture, tensors, "int4")
    whole = WholeWeights(path, architecture)

    for name, form in whole.forms.items():
        quantised = quantise(tensors[name], form.bits)
        values, steps = whole.matrix(name)
        assert form.has_offsets == (form.bits == 4 and quantised.zeros is None), name
        difference = np.abs(values - dequantise(quantised))
        assert (difference <= 15 * 2.0**-11 * steps).all(), name


def test_whole_zeros_come_back_from_the_minimums_they_made():
    scales = np.float16([[0.1, 0.3], [7e-6, 0.0]]).astype(np.float32)
    zeros = np.uint8([[3, 15], [9, 0]])
    minimums = (-zeros.astype(np.float32) * scales).astype(np.float16)

    np.testing.assert_array_equal(whole_zeros(scales, minimums), zeros)
    assert whole_zeros(scales, np.float16([[-0.25, 0], [0, 0]])) is None


def test_a_tied_table_is_looked_up_and_multiplied_with_in_one_place(tmp_path):
    architecture = llama_architecture()
    write_files(tmp_path, architecture, random_tensors(architecture, 0), "int8")
    index = read_index(str(tmp_path / "weights.safetensors"))
    g = GraphBuilder(index, "weights.safetensors", Whole(whole_forms(index, architecture, "")))
    g.rows("/embed", "embed.weight", "ids")
    g.product("/head", "x", "embed.weight")

    places = {
        tensor.name: [item.value for item in tensor.external_data]
        for tensor in g.model("table", {}).graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    assert places["embed.weight.quants" + RESHAPED] == places["embed.weight.quants"]
    assert sum("embed.weight.quants" in name for name in index) == 1


def in_native(offset_of, factor):
    """A fault planted in the native file, at an f16 of the matrix DOWN."""

    def spoil(native, weights, architecture):
        place = read_tensors(native, architecture)[DOWN]
        data = np.memmap(native, dtype="<f2", mode="r+")
        data[offset_of(place) // 2] *= factor
        data.flush()

    return spoil


def swap_blocks(native, weights, architecture):
    place = read_tensors(native, architecture)[DOWN]
    blocks = np.memmap(native, np.uint8, "r+", place.offset, (place.n_panels, place.n_blocks, 256))
    blocks[0] = blocks[0, ::-1].copy()
    blocks.flush()


def in_weights(suffix, change):
    """A fault planted in the weights file, in one part of the matrix DOWN."""

    def spoil(native, weights, architecture):
        entry = read_index(weights)[DOWN + suffix]
        kind = "<f4" if entry.dtype == "F32" else np.uint8
        part = np.memmap(weights, kind, "r+", entry.offset, entry.shape)
        change(part)
        part.flush()

    return spoil


def double_one(part):
    part[3, 1] *= 2


def no_number(part):
    part[3, 1] = np.nan


def swap_two(part):
    part[3, :2] = part[3, 1::-1].copy()


def drop(part):
    part[:] = 0


FAULTS = {
    "one native scale doubled": in_native(lambda place: place.scales_offset + 2 * 3, 2),
    "one native minimum doubled": in_native(lambda place: place.minimums_offset + 2 * 3, 2),
    "one native scale not a number": in_native(lambda place: place.scales_offset + 2 * 3, np.nan),
    "native blocks permuted": swap_blocks,
    "one scale doubled": in_weights(".scales", double_one),
    "one scale not a number": in_weights(".scales", no_number),
    "one block permuted": in_weights(".quants", swap_two),
    "minimums dropped": in_weights(".offsets", drop),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_the_numbers_is_found_whatever_the_logits_say(tmp_path, fault):
    architecture = tiny_architecture(blocks=(BlockSpec(16, 2, 2, 64, 1),))
    tensors = from_free_blocks(architecture)
    native, weights = write_files(tmp_path, architecture, tensors, "int4")

    def check():
        check_rounding(native, architecture, tensors)
        check_same_numbers(native, weights, architecture)

    check()
    FAULTS[fault](native, weights, architecture)
    with pytest.raises(ParityError, match=DOWN):
        check()


def bypass_offsets(model):
    """Products give their steps; nothing is added."""
    for node in [n for n in model.graph.node if n.op_type == "Gemm"]:
        steps = next(n for n in model.graph.node if n.output[0] == node.input[2])
        steps.output[0] = node.output[0]
        model.graph.node.remove(node)


def forget_zero_points(model):
    for node in model.graph.node:
        if node.op_type == "MatMulNBits" and len(node.input) > 3:
            node.input[3] = ""


@pytest.mark.usefixtures("native_library")
@pytest.mark.parametrize(
    ("spoil", "weights"),
    [(bypass_offsets, from_free_blocks), (forget_zero_points, random_tensors)],
)
def test_a_graph_that_forgets_a_part_is_far_above_the_tolerance(tmp_path, spoil, weights):
    architecture = llama_architecture()
    bundle, _ = build(tmp_path, architecture, weights(architecture, 0), "int4")
    golden, expected = bundle.manifest.golden, reference_logits(bundle)
    assert compare_logits(OrtBackend(bundle), expected, golden, "int4").rms < WHOLE_TOLERANCE / 2
    model = onnx.load(bundle.file("onnx"), load_external_data=False)
    spoil(model)
    onnx.save(model, bundle.file("onnx"))

    with pytest.raises(ParityError, match=r"differ by (0\.[3-9]|[1-9]).* of their spread"):
        compare_logits(OrtBackend(bundle), expected, golden, "int4")


def test_a_weights_file_of_another_form_is_refused(tmp_path):
    architecture = tiny_architecture()
    _, path = write_files(tmp_path, architecture, random_tensors(architecture, 0), "int4")
    index = read_index(path)
    del index[DOWN + ".zeros"]

    with pytest.raises(FormatError, match=r"down.weight.zeros: the file has no such tensor"):
        whole_forms(index, architecture, path)


@pytest.mark.usefixtures("native_library")
def test_commands_take_the_bundle_with_either_backend(tmp_path, capsys):
    architecture = llama_architecture()
    bundle, _ = build(tmp_path, architecture, random_tensors(architecture, 0), "int4")

    for backend, says in (("ort", "onnxruntime"), ("native", "native decoder")):
        assert main(["verify", bundle.path, "--backend", backend]) == 0
        assert says in capsys.readouterr().out
        assert main(["bench", bundle.path, "--backend", backend, "-p4", "-n4", "-r1"]) == 0


def test_without_the_native_library_onnx_runtime_takes_over(tmp_path, monkeypatch, native_library):
    architecture, notes = llama_architecture(), []
    bundle, _ = build(tmp_path, architecture, random_tensors(architecture, 0), "int8")
    monkeypatch.setenv("MERINO_EDGE_NATIVE", str(tmp_path / "none.so"))

    with load(bundle.path, on_note=notes.append) as session:
        assert session.backend.name == "ort"
    assert any("libmerino_edge" in note for note in notes)


@pytest.mark.parametrize("version", ["1.10.0", "1.22.1"])
def test_an_onnx_runtime_that_is_too_old_is_told_with_the_way_out(version):
    with pytest.raises(MissingDependencyError, match=r"1\.23 or later") as caught:
        _require_whole_numbers(version, "int4")
    assert version in str(caught.value)
    assert "--precision fp32" in caught.value.hint
    _require_whole_numbers("1.23.0", "int4")


OPEN = """
import sys
from merino_edge.formats.bundle import Bundle
from merino_edge.runtime.backends.ort import OrtBackend
backend = OrtBackend(Bundle.open(sys.argv[1]), threads=1)
lines = open("/proc/self/status").read().splitlines()
print(next(line for line in lines if line.startswith("RssAnon")).split()[1])
"""


def unproved_bundle(path, architecture):
    """Both files and a manifest, without the comparisons, which take long for wide layers."""
    path = native_bundle(path, architecture, precision="int4")
    tensors, recipe = random_tensors(architecture, 0), in_precision(RECIPES["host"], "int4")
    export_decoder(path, architecture, tensors, 32, recipe)
    roles = {"model.merino": "native", "decoder.onnx": "onnx", "weights.safetensors": "weights"}
    edit_manifest(path, files=file_entries(path, roles))
    return path


def test_a_block_is_repacked_once_and_not_for_each_of_its_layers(tmp_path):
    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 32):
        pytest.skip("ONNX Runtime 1.32 is the first that was seen to share")
    found = {}
    for depth in (1, 9):
        block = BlockSpec(d_model=768, n_head=12, n_kv_head=12, d_ff=3072, depth=depth)
        architecture = tiny_architecture(blocks=(block,))
        path = unproved_bundle(tmp_path / str(depth), architecture)
        # glibc shall give back what is freed, so that what is held can be seen
        environment = dict(os.environ, MALLOC_MMAP_THRESHOLD_="65536")
        command = [sys.executable, "-c", OPEN, path]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
        found[depth] = 1024 * int(done.stdout)

    block_bytes = (4 * 768 * 768 + 2 * 768 * 3072) // 2
    cache_bytes = 8 * 2 * 4 * 768 * 49
    assert found[9] - found[1] < block_bytes / 2 + cache_bytes


@pytest.mark.slow
@pytest.mark.usefixtures("native_library")
def test_smollm2_in_four_bits_is_the_same_model_on_both_backends(tmp_path):
    pytest.importorskip("gguf")
    from merino_edge.model.importers.models import import_model

    report = import_model(smollm2_path(), str(tmp_path / "checkpoint"))
    source, recipe = (
        Source.from_checkpoint(report.checkpoint),
        in_precision(RECIPES["host"], "int4"),
    )
    bundle, parity = build_bundle(source, "host", 64, str(tmp_path / "b"), recipe=recipe)

    assert parity.between.rms < 0.08
    assert parity.against_torch.rms < 0.08
    assert parity.golden_tokens >= 24
    with load(bundle.path, backend="ort", threads=2) as session:
        best = int(np.argmax(session.prefill(session.encode_prompt("The capital of France is"))))
        assert session.tokenizer.decode([best]) == " Paris"
