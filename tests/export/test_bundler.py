"""A bundle appears whole and proven, or not at all; afterwards every changed byte is noticed."""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from doubles import llama_architecture, random_tensors, tiny_architecture, write_tokenizer

from merino_edge.errors import ChecksumError, FormatError, ParityError, UsageError
from merino_edge.export import bundler
from merino_edge.export.bundler import Source, build_bundle
from merino_edge.export.graph_check import check_graph
from merino_edge.formats.bundle import MANIFEST, Bundle, file_entries
from merino_edge.formats.jsonio import write_record
from merino_edge.formats.manifest import SCHEMA
from merino_edge.runtime.backends.ort import OrtBackend
from merino_edge.runtime.tokenizer import Tokenizer
from merino_edge.runtime.verify import (
    FP32_TOLERANCE,
    check_golden_tokens,
    reference_logits,
)

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


@pytest.fixture
def source(tmp_path):
    architecture = llama_architecture()
    write_tokenizer(tmp_path / "tokenizer.json", architecture.vocab_size)
    text = (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    return Source("tiny", architecture, random_tensors(architecture, 0), text)


def test_the_same_source_gives_the_same_bytes(tmp_path, source):
    first, _ = build_bundle(source, "host", 32, str(tmp_path / "a"))
    second, _ = build_bundle(source, "host", 32, str(tmp_path / "b"))

    assert first.bundle_id == second.bundle_id
    assert first.manifest == second.manifest


def test_a_build_that_fails_late_leaves_nothing_and_keeps_the_old_bundle(
    tmp_path, source, monkeypatch
):
    output = str(tmp_path / "bundle")
    old, _ = build_bundle(source, "host", 32, output)
    other = Source("other", source.architecture, random_tensors(source.architecture, 1))

    def disagree(*args):
        raise ParityError("logits differ.")

    monkeypatch.setattr(bundler, "check_parity", disagree)
    with pytest.raises(ParityError):
        build_bundle(other, "host", 32, output, force=True)

    assert Bundle.open(output).bundle_id == old.bundle_id
    assert sorted(os.listdir(tmp_path)) == ["bundle", "tokenizer.json"]


def test_an_existing_bundle_is_replaced_only_when_asked(tmp_path, source):
    output = str(tmp_path / "bundle")
    build_bundle(source, "host", 32, output)
    with pytest.raises(UsageError, match="exists already"):
        build_bundle(source, "host", 32, output)

    replaced, _ = build_bundle(source, "host", 16, output, force=True)
    assert replaced.manifest.kv_cache.context_len == 16


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path, source):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")

    with pytest.raises(UsageError, match=r"has no manifest.json"):
        build_bundle(source, "host", 32, str(tmp_path / "thesis"), force=True)
    assert (tmp_path / "thesis" / "chapter1.txt").exists()


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from doubles import llama_architecture, random_tensors
from merino_edge.cli.main import main
from merino_edge.formats.architecture import write_architecture, BlockSpec
block = BlockSpec(256, 8, 8, 1024, 1)
write_architecture({arch!r}, llama_architecture(blocks=(block,) * {n_blocks}))
print("ready", flush=True)
sys.exit(main(["build", {arch!r}, "--random-weights", "-o", {output!r}]))
"""


def build_process(tmp_path, n_blocks, **options):
    text = SCRIPT.format(
        tests=os.path.dirname(os.path.dirname(__file__)),
        arch=str(tmp_path / "arch.json"),
        output=str(tmp_path / "out" / "bundle"),
        n_blocks=n_blocks,
    )
    return subprocess.Popen(
        [sys.executable, "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_disk_that_fills_during_export_is_one_error_and_leaves_nothing(tmp_path):
    def small_disk():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does: write() fails instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    process = build_process(tmp_path, 4, preexec_fn=small_disk)
    _, errors = process.communicate(timeout=120)

    assert process.returncode == 1
    assert "error: File too large" in errors
    assert "Traceback" not in errors
    assert os.listdir(tmp_path / "out") == []


def test_ctrl_c_during_export_leaves_nothing(tmp_path):
    process = build_process(tmp_path, 24)
    out = tmp_path / "out"
    deadline = time.monotonic() + 60
    while not (out.is_dir() and os.listdir(out)):  # the temporary folder: export has begun
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 130
    assert errors.endswith("interrupted.\n")
    assert os.listdir(out) == []


def test_one_changed_byte_in_any_file_is_found(tmp_path, source):
    bundle, _ = build_bundle(source, "host", 32, str(tmp_path / "bundle"))
    for name in bundle.manifest.files:
        path = os.path.join(bundle.path, name)
        with open(path, "r+b") as stream:
            stream.seek(os.path.getsize(path) // 2)
            byte = stream.read(1)
            stream.seek(-1, os.SEEK_CUR)
            stream.write(bytes([byte[0] ^ 1]))
        with pytest.raises(ChecksumError, match=name):
            Bundle.open(bundle.path).verify_checksums()
        with open(path, "r+b") as stream:
            stream.seek(os.path.getsize(path) // 2)
            stream.write(byte)
    Bundle.open(bundle.path).verify_checksums()


def test_a_manifest_that_vouches_for_other_weights_fails_the_golden_tokens(tmp_path, source):
    bundle, _ = build_bundle(source, "host", 32, str(tmp_path / "bundle"))
    path = bundle.file("weights")
    with open(path, "r+b") as stream:
        stream.seek(8192)
        stream.write(np.random.RandomState(0).standard_normal(2000).astype("<f4").tobytes())
    roles = {name: entry.role for name, entry in bundle.manifest.files.items()}
    manifest = bundle.manifest._replace(files=file_entries(bundle.path, roles))
    write_record(os.path.join(bundle.path, MANIFEST), SCHEMA, manifest)

    changed = Bundle.open(bundle.path)
    changed.verify_checksums()
    with pytest.raises(ParityError, match="golden prompt"):
        check_golden_tokens(OrtBackend(changed), changed.manifest.golden)


def test_a_graph_that_reads_weights_from_elsewhere_is_refused(tmp_path, source):
    import onnx

    bundle, _ = build_bundle(source, "host", 32, str(tmp_path / "bundle"))
    model = onnx.load(bundle.file("onnx"), load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.name == "embed.weight")
    next(e for e in tensor.external_data if e.key == "offset").value = "64"
    onnx.save(model, bundle.file("onnx"))

    with pytest.raises(FormatError, match=r"embed.weight: the graph reads this weight from"):
        check_graph(bundle)


def test_golden_prompts_are_kept_short_of_the_context(tmp_path):
    architecture = tiny_architecture(max_seq_len=8)
    source = Source("short", architecture, random_tensors(architecture, 0))
    bundle, _ = build_bundle(source, "host", 8, str(tmp_path / "bundle"))

    for golden in bundle.manifest.golden:
        assert len(golden.input_ids) + len(golden.output_ids) <= 8
        assert len(golden.prompt) == len(golden.input_ids) == 4  # no tokenizer: a byte a token


def test_golden_ids_are_those_of_the_golden_text(tmp_path, source):
    bundle, _ = build_bundle(source, "host", 16, str(tmp_path / "bundle"))
    tokenizer = Tokenizer.from_file(bundle.file("tokenizer"))

    for golden in bundle.manifest.golden:
        assert tokenizer.encode(golden.prompt) == golden.input_ids


def test_the_manifest_names_every_file_of_the_folder(tmp_path, source):
    bundle, _ = build_bundle(source, "host", 32, str(tmp_path / "bundle"))
    assert set(os.listdir(bundle.path)) == {MANIFEST, *bundle.manifest.files}
    with open(os.path.join(bundle.path, MANIFEST), encoding="utf-8") as stream:
        assert json.load(stream)["schema"] == "merino-edge.bundle/1"


def lose_a_row(backend):
    region = backend._cache.regions[0]
    ctypes.memset(region.address + 3 * region.row_bytes, 0, region.row_bytes)


def shift_positions(backend):
    write = backend._inputs.write

    def wrong(*call):
        arrays = write(*call)
        arrays["position_ids"] += 1
        return arrays

    backend._inputs.write = wrong


def show_the_sentinel(backend):
    backend._inputs.buffers["past_mask"][0] = 0.0


@pytest.mark.parametrize("spoil", [lose_a_row, shift_positions, show_the_sentinel])
def test_each_fault_of_a_cache_is_far_above_the_tolerance(tmp_path, source, spoil):
    bundle, _ = build_bundle(source, "host", 32, str(tmp_path / "bundle"))
    ids = [7, 8, 9, 10, 11, 12, 13, 14]
    expected = reference_logits(bundle)(ids)
    backend = OrtBackend(bundle)

    def worst():
        rows = [np.array(backend.decode(token)) for token in ids[4:]]
        return np.abs(rows - expected[4:]).max() / np.abs(expected).max()

    backend.prefill(ids[:4])
    assert worst() < FP32_TOLERANCE / 10
    backend.reset()
    backend.prefill(ids[:4])
    spoil(backend)
    assert worst() > 10 * FP32_TOLERANCE
