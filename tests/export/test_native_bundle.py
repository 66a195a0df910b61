"""A bundle for the native decoder, made and used: build, inspect, verify, run, bench."""

import json
import os

import numpy as np
import pytest
from doubles import llama_architecture, random_tensors, tiny_architecture, write_tokenizer
from real_model import smollm2_path

from merino_edge.cli.main import main
from merino_edge.errors import FormatError, MissingDependencyError, ParityError, UnsupportedError
from merino_edge.export.bundler import Source, build_bundle
from merino_edge.export.native_pack import pack
from merino_edge.export.recipe import RECIPES, in_precision
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.native_file import read_tensors
from merino_edge.formats.pieces_file import read_pieces
from merino_edge.pipeline.build import BuildOptions, build_for_target
from merino_edge.runtime.open import load
from merino_edge.runtime.roofline import decode_bytes_per_token
from merino_edge.runtime.verify import WHOLE_TOLERANCE, compare_logits, reference_logits

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("native_library")]


@pytest.fixture
def source(tmp_path):
    architecture = tiny_architecture()
    write_tokenizer(tmp_path / "tokenizer.json", architecture.vocab_size)
    text = (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    return Source("tiny", architecture, random_tensors(architecture, 0), text)


def build(source, output, target="nano-cpu", precision=None):
    options = BuildOptions(context_len=40, precision=precision)
    return build_for_target(source, target, str(output), options)


@pytest.mark.parametrize(("asked", "precision"), [(None, "int8"), ("fp32", "fp32")])
def test_a_bundle_for_a_board_s_cpu_holds_one_file_of_weights(tmp_path, source, asked, precision):
    bundle, parity = build(source, tmp_path / "bundle", "nano-cpu", asked)

    assert bundle.manifest.precision == precision
    files = {name: entry.role for name, entry in bundle.manifest.files.items()}
    assert files == {
        "model.merino": "native", "pieces.bin": "pieces", "tokenizer.json": "tokenizer",
    }  # fmt: skip
    assert sorted(os.listdir(bundle.path)) == sorted([*files, "manifest.json"])
    assert len(read_pieces(bundle.file("pieces")).pieces) <= source.architecture.vocab_size
    assert parity.golden_tokens > 0
    if precision == "fp32":
        assert parity.against_torch.relative < 1e-5


def test_a_host_bundle_without_a_precision_stays_a_graph(tmp_path, source):
    pytest.importorskip("onnxruntime")
    bundle, _ = build(source, tmp_path / "bundle", "host")

    assert {e.role for e in bundle.manifest.files.values()} == {"onnx", "weights", "tokenizer"}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("architecture", [tiny_architecture(), llama_architecture()])
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_random_decoders_prove_themselves_within_the_tolerance(
    tmp_path, architecture, seed, precision
):
    source = Source("random", architecture, random_tensors(architecture, seed))
    _, parity = build(source, tmp_path / "bundle", "host", precision)

    assert 0 < parity.against_reference.rms < WHOLE_TOLERANCE
    assert 0 < parity.between.rms < WHOLE_TOLERANCE


def test_another_model_s_file_fails_the_comparison(tmp_path, source):
    bundle, _ = build(source, tmp_path / "bundle")
    expected = reference_logits(bundle)
    others = random_tensors(source.architecture, 1)
    with load(bundle.path) as right:
        compare_logits(right.backend, expected, bundle.manifest.golden, "int8")
    pack(bundle.file("native"), source.architecture, others, "int8")

    with load(bundle.path) as wrong, pytest.raises(ParityError, match="differ by"):
        compare_logits(wrong.backend, expected, bundle.manifest.golden, "int8")


def test_every_command_takes_the_bundle(tmp_path, source, capsys):
    bundle, _ = build(source, tmp_path / "bundle")

    assert main(["inspect", bundle.path]) == 0
    assert "model.merino (native" in capsys.readouterr().out
    assert main(["verify", bundle.path]) == 0
    assert "34 tensors lie where the architecture says" in capsys.readouterr().out
    assert main(["run", bundle.path, "--prompt", "The sheep", "--max-new-tokens", "4"]) == 0
    command = ["bench", bundle.path, "-p", "8", "-n", "4", "-r", "2", "-o", "json"]
    capsys.readouterr()
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)


def test_the_roofline_counts_the_bytes_of_the_native_file(tmp_path, source):
    bundle, _ = build(source, tmp_path / "bundle")
    places = read_tensors(bundle.file("native"), source.architecture)
    row = places["pos_embed.weight"].n_bytes // 48
    rest = sum(place.n_bytes for n, place in places.items() if n != "pos_embed.weight")

    assert decode_bytes_per_token(bundle, "native", 0).once == rest + row


def test_onnx_runtime_says_that_there_is_no_graph(tmp_path, source):
    bundle, _ = build(source, tmp_path / "bundle")

    with pytest.raises(FormatError, match="'onnx'"):
        load(bundle.path, backend="ort")


def test_without_the_library_nothing_is_built_and_the_way_out_is_named(
    tmp_path, source, monkeypatch
):
    monkeypatch.setenv("MERINO_EDGE_NATIVE", str(tmp_path / "none.so"))

    with pytest.raises(MissingDependencyError, match="libmerino_edge") as caught:
        build(source, tmp_path / "bundle")
    assert "C compiler" in caught.value.hint
    assert not os.path.exists(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("target", "precision"), [("nano", "int8"), ("rtx", "int4"), ("nano-cpu", "fp16")]
)
def test_a_precision_that_a_target_does_not_take_is_refused(target, precision):
    with pytest.raises(UnsupportedError, match=precision):
        in_precision(RECIPES[target], precision)


@pytest.mark.slow
def test_smollm2_in_eight_bits_knows_the_capital_of_france(tmp_path):
    pytest.importorskip("gguf")
    from merino_edge.model.importers.models import import_model

    report = import_model(smollm2_path(), str(tmp_path / "checkpoint"))
    source = Source.from_checkpoint(report.checkpoint)
    recipe = RECIPES["nano-cpu"]
    bundle, parity = build_bundle(source, "nano-cpu", 64, str(tmp_path / "b"), recipe=recipe)

    assert bundle.size_bytes < 146e6
    assert parity.against_torch.rms < 0.07
    with load(bundle.path, backend="native", threads=2) as session:
        ids = session.encode_prompt("The capital of France is")
        best = int(np.argmax(session.prefill(ids)))
        assert session.tokenizer.decode([best]) == " Paris"
    assert Bundle.open(bundle.path).verify_checksums()
