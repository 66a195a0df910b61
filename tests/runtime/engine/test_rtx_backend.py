"""TensorRT-RTX: the adapter's names are the real module's, and on a card the tokens are right."""

import os
import shutil

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
from engine_machine import GOLDEN

from merino_edge.formats import jsonio
from merino_edge.formats.bundle import MANIFEST, Bundle
from merino_edge.formats.manifest import SCHEMA, BundleManifest
from merino_edge.runtime import make_engine
from merino_edge.runtime.backends.ort import OrtBackend
from merino_edge.runtime.engine.door import TENSORRT_RTX, open_tensorrt
from merino_edge.runtime.engine.workshop import MakeOptions, find_engine, open_workshop

pytestmark = pytest.mark.rtx
NAMES = {
    "Runtime": ["deserialize_cuda_engine"],
    "ICudaEngine": [
        "num_io_tensors",
        "get_tensor_name",
        "get_tensor_dtype",
        "get_tensor_shape",
        "get_tensor_mode",
        "create_execution_context",
    ],
    "IExecutionContext": [
        "set_optimization_profile_async",
        "set_input_shape",
        "set_tensor_address",
        "execute_async_v3",
    ],
}


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """The golden bundle, as it would have been built for an RTX card."""
    path = str(tmp_path / "bundle")
    shutil.copytree(GOLDEN, path)
    manifest_path = os.path.join(path, MANIFEST)
    manifest = jsonio.read_record(manifest_path, SCHEMA, BundleManifest)
    jsonio.write_record(manifest_path, SCHEMA, manifest._replace(target="rtx"))
    monkeypatch.setenv("MERINO_EDGE_CACHE", str(tmp_path / "engines"))
    return Bundle.open(path)


def test_every_name_that_the_adapter_uses_is_there():
    module = open_tensorrt(TENSORRT_RTX).module
    for kind, names in NAMES.items():
        assert [name for name in names if not hasattr(getattr(module, kind), name)] == []


def test_without_a_card_an_engine_is_built_and_the_record_says_that_it_was_not_tried(bundle):
    shop = open_workshop(bundle)
    if shop.cuda is not None:
        pytest.skip("there is a card here")
    found = make_engine.build_engine(shop, MakeOptions(), print, print)

    assert found.record.verified is None
    assert found.record.key.compute_capability == "any"
    assert find_engine(shop, print).plan_path == found.plan_path


@pytest.mark.gpu
def test_on_a_card_greedy_tokens_equal_onnx_runtimes(bundle):
    """Has never run yet: no card was at hand."""
    notes = []
    ours, twin = make_engine.open_backend(bundle, notes.append, print), OrtBackend(bundle)
    texts = []
    for backend in (ours, twin):
        logits, tokens = backend.prefill(list(range(3, 140)))[-1], []
        for _ in range(64):
            tokens.append(int(np.argmax(logits)))
            logits = backend.decode(tokens[-1])
        texts.append(tokens)
    ours.close()
    assert texts[0] == texts[1]
    assert not [note for note in notes if "graphs are off" in note]
