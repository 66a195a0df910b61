"""The emulation of half-precision sums does what it says: it rounds after every addition."""

import importlib.util
import sys

import numpy as np
import pytest
from doubles import llama_architecture, random_tensors, tiny_architecture
from repository import ROOT

from merino_edge.errors import UnsupportedError

pytest.importorskip("onnx")
pytestmark = [pytest.mark.torch, pytest.mark.onnx]


@pytest.fixture(scope="module")
def half_sums():
    path = ROOT / "benchmarks" / "tensorrt" / "half_sums.py"
    spec = importlib.util.spec_from_file_location("half_sums", path)
    module = sys.modules["half_sums"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        module.kernel()
    except UnsupportedError as error:
        pytest.skip(str(error))
    return module


def halves(shape, seed, scale=1.0):
    return (np.random.RandomState(seed).standard_normal(shape) * scale).astype(np.float16)


@pytest.mark.parametrize(("m", "n", "depth"), [(1, 1, 1), (3, 32, 64), (5, 37, 100), (2, 65, 7)])
def test_a_product_is_a_chain_of_rounded_additions(half_sums, m, n, depth):
    a, b = halves((m, depth), 0), halves((n, depth), 1)
    expected = np.zeros((m, n), np.float16)
    for k in range(depth):
        product = np.outer(a[:, k].astype(np.float32), b[:, k].astype(np.float32))
        expected = (expected.astype(np.float32) + product).astype(np.float16)

    np.testing.assert_array_equal(half_sums.half_product(a, b), expected)


def test_small_terms_are_lost_and_large_sums_overflow(half_sums):
    ones = np.ones((1, 4096), np.float16)

    assert half_sums.half_product(ones, ones)[0, 0] == 2048  # 2048 + 1 is 2048 in half precision
    assert np.isinf(half_sums.half_product(ones * 100, ones * 100)[0, 0])


@pytest.mark.parametrize("architecture", [tiny_architecture(), llama_architecture()])
def test_a_bundle_runs_nearly_as_on_onnx_runtime_in_chunks_and_token_by_token(
    half_sums, tmp_path, architecture
):
    from merino_edge.export.bundler import Source, build_bundle
    from merino_edge.runtime.backends.ort import OrtBackend

    source = Source("tiny", architecture, random_tensors(architecture, 1))
    bundle = build_bundle(source, "nano", 32, str(tmp_path / "bundle"))[0]
    emulated, runtime = half_sums.HalfSums(bundle), OrtBackend(bundle)
    for ids in ([3, 1, 4, 1, 5], [9, 2, 6], [5]):
        rows, expected = (each.prefill(ids, all_logits=True) for each in (emulated, runtime))
        largest = np.abs(expected).max()
        # a lost row or a wrong position changes logits by a share of 5e-3 to 1; sums of at most 40
        # terms in half precision by less than 3e-2 here, and never by nothing
        assert 0 < np.abs(rows - expected).max() < 3e-2 * largest
