"""What ``bench`` and ``inspect`` are given wrongly: one error each, with its exit code.

Exit codes: 1 failure, 2 usage, 3 incompatible, 8 integrity.
"""

import json
import os
import shutil

import pytest
from repository import ROOT

from merino_edge.cli.main import main
from merino_edge.formats.bundle import sha256_of
from merino_edge.runtime import open as opening

GOLDEN = ROOT / "tests/golden/tiny-bundle"
SHORT = ("-p", "4", "-n", "1", "-r", "1", "--backend", "reference", "-q")


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A copy of the golden bundle, beside an empty folder and a file, in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.txt").write_text("The sheep")
    return shutil.copytree(GOLDEN, tmp_path / "bundle")


def replace(bundle, name, data):
    """Give a file of the bundle other bytes, and have the manifest vouch for them."""
    (bundle / name).write_bytes(data)
    manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    entry = manifest["files"][name]
    entry.update(size_bytes=len(data), sha256=sha256_of(str(bundle / name)))
    (bundle / "manifest.json").write_text(json.dumps(manifest), "utf-8")


def the_error(capsys):
    """What was printed, which is one error and neither a result nor a traceback."""
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert err.count("error: ") == 1
    return err


@pytest.mark.parametrize("command", ["bench", "inspect"])
@pytest.mark.parametrize("path", ["nosuch", "empty", "words.txt"])
def test_what_is_no_bundle_is_named(bundle, capsys, command, path):
    assert main([command, path]) == 8
    assert path in the_error(capsys)


@pytest.mark.parametrize("command", ["bench", "inspect"])
@pytest.mark.parametrize(
    ("manifest", "code", "told"),
    [
        (lambda text: text[:200], 8, "manifest.json: not JSON"),
        (lambda text: "[]", 8, "schema is None"),
        (lambda text: text.replace("bundle/1", "bundle/99"), 3, "bundle/99"),
        (lambda text: text.replace('"context_len": ', '"context_len": -'), 8, "context_len"),
        (lambda text: text.replace('"layers": [', '"layers": [[4], '), 8, "layers are pairs"),
        (lambda text: text.replace('"dtype": "float32"', '"dtype": "int7"'), 8, "int7"),
        (lambda text: text.replace('"precision"', '"precisoin"'), 8, "precisoin"),
    ],
)
def test_a_damaged_manifest_is_refused_with_its_field(
    bundle, capsys, command, manifest, code, told
):
    path = bundle / "manifest.json"
    path.write_text(manifest(path.read_text("utf-8")), "utf-8")
    assert main([command, "bundle"]) == code
    assert told in the_error(capsys)


def test_a_bundle_that_memory_does_not_hold_is_told_with_what_it_takes(bundle, capsys, monkeypatch):
    def no_memory(*arguments):
        raise MemoryError

    monkeypatch.setattr(opening, "_reference", no_memory)
    assert main(["bench", "bundle", *SHORT]) == 4
    assert "bytes needed" in the_error(capsys)


@pytest.mark.parametrize("command", ["bench", "inspect"])
@pytest.mark.parametrize("name", sorted({*os.listdir(GOLDEN)} - {"manifest.json"}))
def test_a_file_that_is_missing_or_cut_is_named(bundle, capsys, command, name):
    with (bundle / name).open("r+b") as stream:
        stream.truncate(10)
    assert main([command, "bundle"]) == 8
    assert name + ": 10 bytes" in the_error(capsys)
    (bundle / name).unlink()
    assert main([command, "bundle"]) == 8
    assert name in the_error(capsys)


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["-n", "0", "-p", "0"], 2, "nothing to measure"),
        (["-p", "999999"], 1, "999999 positions, the context holds"),
        (["-p", "99999999999999999999"], 1, "the context holds"),
        (["-p", "4", "-n", "999999"], 1, "tg999999"),
        (["-p", "4", "-n", "1", "-d", "999999"], 1, "pp4 @ d999999"),
        (["-p", "-1"], 2, "'-1' is not a whole number"),
        (["-p", "4,x"], 2, "'x' is not a whole number"),
        (["-p", ","], 2, "holds no number"),
        (["-r", "0"], 2, "'0' is not a whole number above zero"),
        (["--threads", "0"], 2, "'0' is not a whole number above zero"),
        (["--backend", "nope"], 2, "'nope'"),
        (["--backend", "native"], 3, "no file for the native decoder"),
        (["--backend", "tensorrt"], 3, "has no engine"),
        (["-o", "xml"], 2, "'xml'"),
    ],
)
def test_wrong_numbers_and_backends_are_told(bundle, capsys, options, code, told):
    backend = [] if "--backend" in options else ["--backend", "reference"]
    assert main(["bench", "bundle", "-q", *options, *backend]) == code
    assert told in the_error(capsys)


@pytest.mark.parametrize("data", [b"{}", b"\xff\xfe", b'{"model": {"type": "none"}}'])
def test_what_is_no_tokenizer_is_refused(bundle, capsys, data):
    pytest.importorskip("tokenizers")
    replace(bundle, "tokenizer.json", data)
    assert main(["bench", "bundle", *SHORT]) == 8
    assert "tokenizer.json" in the_error(capsys)


def test_a_tokenizer_of_another_model_is_refused(bundle, capsys):
    pytest.importorskip("tokenizers")
    tokenizer = json.loads((bundle / "tokenizer.json").read_text("utf-8"))
    for number in range(1000):
        tokenizer["model"]["vocab"][f"extra{number}"] = 10_000 + number
    replace(bundle, "tokenizer.json", json.dumps(tokenizer).encode("utf-8"))
    assert main(["bench", "bundle", *SHORT]) == 8
    assert "the weights only" in the_error(capsys)


def test_a_graph_that_is_none_is_onnx_runtimes_to_refuse(bundle, capsys):
    pytest.importorskip("onnxruntime")
    replace(bundle, "decoder.onnx", b"The sheep")
    assert main(["bench", "bundle", "-p", "4", "-n", "1", "--backend", "ort", "-q"]) == 3
    assert "refuses the graph" in the_error(capsys)


@pytest.mark.onnx
def test_more_threads_than_a_machine_has_are_as_many_as_it_has(bundle, capsys):
    pytest.importorskip("onnxruntime")
    few = ("-p", "4", "-n", "1", "-r", "1", "-q", "--backend", "ort", "--threads", "99999")
    assert main(["bench", "bundle", *few, "-o", "json"]) == 0
    (first, _) = json.loads(capsys.readouterr().out)
    assert f"{os.cpu_count()} threads" in first["engine"]
