"""Probes are ordinary bundles, made quickly: the same files, with numbers for nobody to believe."""

import numpy as np
import pytest
from doubles import llama_architecture, tiny_architecture

from merino_edge.export.probes import RepeatedWeights, build_probe, quantise_repeated
from merino_edge.export.quantise import quantise
from merino_edge.export.recipe import HOST, NATIVE, in_precision
from merino_edge.formats.weights import weight_shapes
from merino_edge.runtime import load

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


@pytest.mark.parametrize("make", [tiny_architecture, llama_architecture])
def test_weights_have_the_shapes_of_the_architecture_and_are_made_anew(make):
    weights = RepeatedWeights(make())
    assert {name: array.shape for name, array in weights.items()} == weight_shapes(make())
    assert len(weights) == len(list(weights))
    name = next(iter(weights))
    np.testing.assert_array_equal(weights[name], RepeatedWeights(make())[name])
    assert weights[name] is not weights[name]


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("shape", [(16, 32), (40, 33), (7, 64)])
def test_rounding_one_panel_is_rounding_them_all(bits, shape):
    array = np.resize(np.random.default_rng(0).standard_normal((16, shape[1])), shape)
    array = array.astype(np.float32)
    fast, slow = quantise_repeated(array, bits), quantise(array, bits)
    np.testing.assert_array_equal(fast.quants, slow.quants)
    np.testing.assert_array_equal(fast.scales, slow.scales)
    assert (fast.minimums is None) == (slow.minimums is None)


@pytest.mark.usefixtures("native_library")
@pytest.mark.parametrize("recipe", [HOST, in_precision(HOST, "int8"), in_precision(NATIVE, "int4")])
def test_a_probe_runs_like_any_bundle_and_says_what_it_is(tmp_path, recipe):
    a = tiny_architecture()
    bundle = build_probe(a, "host", 48, str(tmp_path / "probe"), recipe)
    assert "random" in bundle.manifest.provenance["weights"]
    assert bundle.manifest.golden == []
    with load(bundle.path, "auto", 1) as session:
        session.prefill([1, 2, 3])
        assert np.isfinite(session.step(4)).all()


@pytest.mark.usefixtures("native_library")
def test_both_backends_of_a_probe_hold_the_same_numbers(tmp_path):
    bundle = build_probe(
        llama_architecture(), "host", 32, str(tmp_path / "p"), in_precision(HOST, "int8")
    )
    logits = []
    for backend in ("native", "ort"):
        with load(bundle.path, backend, 1) as session:
            logits.append(session.prefill([5, 6, 7]).copy())
    np.testing.assert_allclose(*logits, atol=0.1 * np.std(logits[0]))
