"""Families of models through TensorRT 8.2.1: the tokens that ONNX Runtime says."""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("torch")
from doubles import random_tensors
from engine_machine import Machine
from model_families import FAMILIES, MIXTURES

from merino_edge.export.bundler import Source, build_bundle
from merino_edge.runtime.backends.ort import OrtBackend
from merino_edge.runtime.verify import TOLERANCES, check_golden_tokens

pytestmark = [pytest.mark.onnx, pytest.mark.torch]
ARCHITECTURES = {**FAMILIES, **MIXTURES}
CONTEXT_LEN = 200  # of two lengths of the past, and more than one chunk
IDS = np.random.RandomState(5).randint(0, 300, 190)


@pytest.fixture
def machine(cudart_double, monkeypatch, tmp_path):
    return Machine("8.2.1", cudart_double, monkeypatch, tmp_path)


def logits_of(backend, n_together):
    """A prompt in chunks, then token by token across the border of two lengths."""
    rows = list(np.array(backend.prefill(IDS[:n_together], all_logits=True)))
    return np.array(rows + [np.array(backend.decode(int(token))) for token in IDS[n_together:]])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_and_greedy_tokens_equal_onnx_runtimes(machine, tmp_path, name):
    a = ARCHITECTURES[name].replace(max_seq_len=CONTEXT_LEN)
    source = Source(name, a, random_tensors(a, 1))
    bundle, _ = build_bundle(source, "nano", CONTEXT_LEN, str(tmp_path / "bundle"))
    ours, twin = machine.backend(bundle.path), OrtBackend(bundle)

    for n_together in (100, 150):
        ours.reset()
        twin.reset()
        found, expected = logits_of(ours, n_together), logits_of(twin, n_together)
        bound = TOLERANCES["fp16"] * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound)
        best = np.sort(expected, axis=1)
        clear = best[:, -1] - best[:, -2] > 2 * np.abs(found - expected).max()
        assert clear.mean() > 0.9
        assert (found.argmax(axis=1) == expected.argmax(axis=1))[clear].all()
    assert check_golden_tokens(ours, bundle.manifest.golden) > 20
    assert machine.notes == []
