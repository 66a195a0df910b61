"""The board's half, under the board's Python.

Run by ``make test-py36`` in an environment that holds what a Jetson Nano can have: Python 3.6,
numpy 1.19.5, onnxruntime 1.10.0, tokenizers 0.12.1, pytest 7.0.1, and this package installed from a
copy without any extra. The same tests run under the workstation's Python too, so that one golden
value stands for both: what differs between the machines is then the machine, not the test.

This file itself obeys the rules of Python 3.6.
"""

import importlib
import os
import pkgutil

import pytest

from merino_edge.errors import FormatError
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.manifest import (
    SCHEMA,
    BundleManifest,
    ChatFormat,
    FileEntry,
    GenerationDefaults,
    GoldenPrompt,
    KVCacheSpec,
    RoleFormat,
)

GOLDEN_BUNDLE = os.path.join(os.path.dirname(__file__), "..", "golden", "tiny-bundle")
GOLDEN_ARCH_ID = "3c5c4080ba48"


def merino():
    """Two blocks of shared layers, the width grows between them."""
    return Architecture(
        blocks=(BlockSpec(64, 4, 4, 128, 2), BlockSpec(96, 6, 6, 192, 3)),
        vocab_size=512,
        max_seq_len=128,
    )


def manifest():
    """A manifest that uses every kind of field there is."""
    return BundleManifest(
        name="tiny",
        target="host",
        precision="fp32",
        architecture=merino(),
        n_params=1234,
        kv_cache=KVCacheSpec(layers=[(4, 16), (6, 16)], context_len=128),
        files={"model.onnx": FileEntry("0" * 64, 10, "onnx")},
        generation=GenerationDefaults(eos_token_ids=[0, 2], temperature=0.5),
        golden=[GoldenPrompt("The shéep", [1, 2], [3])],
        made_by="merino-edge 0",
        chat=ChatFormat(roles={"user": RoleFormat("<u>", "</u>")}, generation_prefix="<a>"),
        provenance={"text": "public domain"},
    )


@pytest.mark.parametrize(
    "package", ["merino_edge.formats", "merino_edge.runtime", "merino_edge.cli"]
)
def test_every_module_of_the_board_loads(package):
    root = importlib.import_module(package)
    for found in pkgutil.walk_packages(root.__path__, package + "."):
        importlib.import_module(found.name)


def test_a_manifest_survives_the_disk(tmp_path):
    path = str(tmp_path / "manifest.json")
    jsonio.write_record(path, SCHEMA, manifest())
    assert jsonio.read_record(path, SCHEMA, BundleManifest) == manifest()


def test_a_field_of_the_wrong_type_is_named(tmp_path):
    path = str(tmp_path / "manifest.json")
    document = jsonio.encode(manifest())
    document["kv_cache"]["layers"][1][0] = "six"
    jsonio.write_bytes_atomic(path, jsonio.dumps(dict(document, schema=SCHEMA)).encode("utf-8"))
    with pytest.raises(FormatError) as caught:
        jsonio.read_record(path, SCHEMA, BundleManifest)
    assert caught.value.field == "kv_cache.layers[1][0]"


def test_an_architecture_has_the_same_id_on_every_machine():
    assert merino().arch_id == GOLDEN_ARCH_ID


@pytest.mark.parametrize("backend", ["ort", "reference"])
def test_the_golden_bundle_gives_its_golden_tokens(backend):
    """Fails, and does not skip, where the bundle is missing: it is part of the repository."""
    if backend == "ort":
        pytest.importorskip("onnxruntime")
    from merino_edge.runtime import GenerationConfig, load

    with load(GOLDEN_BUNDLE, backend=backend) as session:
        assert session.manifest.golden
        for golden in session.manifest.golden:
            config = GenerationConfig(max_new_tokens=len(golden.output_ids), eos_token_ids=())
            assert session.encode_prompt(golden.prompt) == golden.input_ids
            assert list(session.generate(golden.prompt, config)) == golden.output_ids


def test_the_golden_bundle_is_as_it_was_made():
    assert len(Bundle.open(GOLDEN_BUNDLE).verify_checksums()) >= 3
