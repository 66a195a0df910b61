"""The scripts that measure cache layouts and engine bytes: real runs on a tiny decoder."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from repository import ROOT

from merino_edge.errors import ParityError, SpecError
from merino_edge.formats.engine_spec import shape_profiles

FOLDER = ROOT / "benchmarks" / "tensorrt"
pytestmark = [pytest.mark.torch, pytest.mark.onnx]
onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
sys.path.append(str(FOLDER))
import decoders  # noqa: E402
import products  # noqa: E402
import variants  # noqa: E402
from decode_times import LayoutDecoder, check_agreement  # noqa: E402

BUCKETS = [128, 256, 512]


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("graph"))
    return folder, decoders.export(
        folder, decoders.architecture_of(decoders.TINY), precision="fp32"
    )


def decoder_for(graph, layout):
    folder, model = graph
    path = decoders.save(folder, layout.name, layout.apply(model, BUCKETS[-1]))
    onnx.checker.check_model(path, full_check=True)
    decoder = LayoutDecoder(path, layout, BUCKETS)
    decoder.prepare(100)
    return decoder


def test_every_layout_gives_the_same_logits_and_appends_the_same_rows(graph):
    found = [decoder_for(graph, layout) for layout in variants.LAYOUTS]
    assert check_agreement(found, 100) < 1e-5
    for other in found[1:]:
        for name, rows in found[0]._caches.items():
            np.testing.assert_allclose(other._caches[name][:101], rows[:101], rtol=1e-4, atol=1e-5)


def test_a_layout_that_computes_something_else_is_not_timed(graph):
    first, other = (decoder_for(graph, layout) for layout in variants.LAYOUTS[1:3])
    other._caches["1.value"][3] += 1.0
    with pytest.raises(ParityError, match="'sequence-major, static' differs by"):
        check_agreement([first, other], 100)


@pytest.mark.parametrize("lengths", [variants.EXACT, variants.BUCKETS])
def test_heads_first_goes_with_one_length_only_because_a_bucket_is_no_prefix(lengths):
    with pytest.raises(SpecError, match="no prefix of its buffer"):
        variants.Layout("x", variants.SEQUENCE_MAJOR, variants.HEAD_MAJOR, lengths)


def test_a_layout_has_the_transposes_that_its_axes_leave(graph):
    kinds = [layout.apply(graph[1], 512).graph.node for layout in variants.LAYOUTS]
    counts = [sum(n.name.endswith(("/past_t", "/past_v")) for n in nodes) for nodes in kinds]
    n_layers = decoders.architecture_of(decoders.TINY).n_layers
    assert counts == [2 * n_layers] * 3 + [n_layers, 0]
    perm = next(n for n in kinds[3] if n.name.endswith("/past_t")).attribute[0].ints
    assert list(perm) == [0, 2, 1]  # the last two axes: a flag of the product


def test_the_shipped_layout_has_the_shipped_graph_and_profiles(graph):
    shipped = next(layout for layout in variants.LAYOUTS if layout.name == variants.SHIPPED)
    assert shipped.apply(graph[1], 512) == graph[1]
    profiles = shape_profiles(decoders.NANO.engine(), BUCKETS)
    assert shipped.profiles(profiles) == profiles


@pytest.mark.parametrize("write", [products.gate_and_up_apart, products.products_of_transposed])
def test_products_written_otherwise_give_the_same_logits(graph, write):
    shipped = next(layout for layout in variants.LAYOUTS if layout.name == variants.SHIPPED)
    folder, model = graph
    changed = write(model)
    assert [n.op_type for n in changed.graph.node] != [n.op_type for n in model.graph.node]
    path = decoders.save(folder, write.__name__, changed)
    other = LayoutDecoder(path, shipped, BUCKETS)
    other.prepare(100)
    assert check_agreement([decoder_for(graph, shipped), other], 100) < 1e-5


def run_script(name, folder, *options):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(FOLDER / name), *options]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def report_of(name, folder):
    options = ("--rounds", "3") if name == "layouts.py" else ()
    done = run_script(name, folder, "--decoders", "tiny", "-o", "found.json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "found.json").read_text("utf-8")), done.stdout


@pytest.mark.slow
@pytest.mark.rtx
def test_layouts_are_timed_at_each_position_and_built_by_nvidia(tmp_path):
    report, page = report_of("layouts.py", tmp_path)
    (model,) = report["models"]
    names = [layout.name for layout in variants.LAYOUTS]
    positions = report["setting"]["positions"]
    assert [(t["position"], t["layout"]) for t in model["times"]] == [
        (position, name) for position in positions for name in names
    ]
    past = {(t["layout"], t["position"]): t["past_len"] for t in model["times"]}
    assert [past[name, 200] for name in names] == [200, 256, 512, 512, 512]
    for time in model["times"]:
        assert len(time["samples_ms"]) == time["step"]["n"] == 3
        assert 0.0 < min(time["samples_ms"]) == time["step"]["min"]
    layers = [engine["built"]["n_layers"] for engine in model["engines"]]
    assert layers[0] == layers[1] > layers[3] > layers[4]  # fewer transposes
    assert all(engine["built"]["plan_bytes"] > 0 for engine in model["engines"])
    assert report["provenance"]["versions"]["TensorRT-RTX"] in page


@pytest.mark.rtx
def test_bytes_of_a_step_are_weights_and_the_rows_that_the_layout_reads(tmp_path):
    import layouts
    import layouts_report

    a = decoders.architecture_of(decoders.TINY)
    block_values = 64 * (64 + 2 * 2 * 16) + 64 * 64 + 3 * 64 * 96  # qkv, out, feed-forward
    assert layouts.step_weight_bytes(a) == 2 * (4 * block_values + 300 * 64)
    counts = (1, layouts.step_weight_bytes(a), 4 * 2 * 2 * 16 * 2, 0.0, None, [], [])
    model = layouts_report.Model("tiny", *counts)
    rows = layouts_report.step_bytes(model, 128, 0.0) - model.step_weight_bytes
    assert rows == 128 * 512
    copied = layouts_report.step_bytes(model, 128, 1.0) - model.step_weight_bytes
    assert copied == 3 * rows  # read, written, read again


@pytest.mark.rtx
def test_a_length_fixed_to_one_is_what_stores_a_matrix_twice():
    import engine_bytes

    ways = {way.name: way for way in engine_bytes.WAYS}
    a = decoders.architecture_of(decoders.TINY)
    fixed = engine_bytes.build_way(a, ways["decode takes exactly 1 token"])
    assert fixed.twice == ["blocks.0.ffn.up.weight", "blocks.1.ffn.up.weight"]
    assert engine_bytes.build_way(a, ways["decode takes 1 or 2 tokens"]).twice == []
    assert all(c.in_rows + c.in_columns > 0 for c in fixed.copies)


@pytest.mark.slow
@pytest.mark.rtx
def test_engine_bytes_builds_every_way_and_says_what_lies_there_twice(tmp_path):
    import engine_bytes

    report, page = report_of("engine_bytes.py", tmp_path)
    (model,) = report["models"]
    assert [engine["way"] for engine in model["engines"]] == [w.name for w in engine_bytes.WAYS]
    assert all(engine["built"]["plan_bytes"] > 0 for engine in model["engines"])
    assert "blocks.0.ffn.up.weight, blocks.1.ffn.up.weight" in page


@pytest.mark.parametrize("name", ["layouts.py", "engine_bytes.py"])
def test_help_or_docstring_has_an_example(name):
    text = (FOLDER / name).read_text("utf-8")
    assert "The one idea:" in text
    assert f"python benchmarks/tensorrt/{name}" in text


def test_a_folder_that_is_not_there_ends_with_a_sentence(tmp_path):
    done = run_script("layouts.py", tmp_path, "-o", "nowhere/found.json")
    assert done.returncode == 2
    assert "there is no folder" in done.stderr
    assert "Traceback" not in done.stderr
