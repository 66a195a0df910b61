"""Bundles for the native decoder on a machine that lacks its library: someone else, and why."""

import pytest
from doubles import native_bundle, random_tensors, tiny_architecture, write_tokenizer

from merino_edge.cli.main import main

WHY = "the package 'libmerino_edge.so' is not installed"
MEND = "pip install merino-edge where there is a C compiler"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return native_bundle(tmp_path_factory.mktemp("alone") / "bundle")


@pytest.fixture(scope="module")
def with_graph(tmp_path_factory, native_library):
    """What a workstation makes: the native file, and a graph with the same whole numbers."""
    from merino_edge.export.bundler import Source
    from merino_edge.pipeline.build import BuildOptions, build_for_target

    folder, a = tmp_path_factory.mktemp("both"), tiny_architecture()
    write_tokenizer(folder / "tokenizer.json", a.vocab_size)
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    source = Source("tiny", a, random_tensors(a, 0), text)
    options = BuildOptions(context_len=40, precision="int8")
    return build_for_target(source, "host", str(folder / "bundle"), options)[0].path


@pytest.fixture(autouse=True)
def no_library(tmp_path, monkeypatch):
    monkeypatch.setenv("MERINO_EDGE_NATIVE", str(tmp_path / "nowhere.so"))


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--prompt", "The sheep", "--max-new-tokens", "2"],
        ["bench", "-p", "4", "-n", "0", "-r", "1"],
        ["verify"],
    ],
    ids=["run", "bench", "verify"],
)
def test_a_native_file_alone_runs_on_the_reference_and_one_line_says_why(bundle, words, capsys):
    assert main([words[0], bundle, *words[1:]]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if WHY in line]
    assert "backend reference (slow): " + WHY in line
    assert MEND in line


@pytest.mark.parametrize(
    "words", [["run", "--prompt", "a"], ["bench", "-r", "1"], ["verify"]], ids=lambda w: w[0]
)
def test_the_native_decoder_by_name_is_one_clear_error(bundle, words, capsys):
    assert main([words[0], bundle, *words[1:], "--backend", "native"]) == 1
    error = capsys.readouterr().err
    assert f"error: {WHY}; the backend 'native' needs it." in error
    assert f"hint: {MEND}" in error
    assert "Traceback" not in error


def test_the_reference_is_not_compared_with_itself(bundle, capsys):
    assert main(["verify", bundle]) == 0
    assert "logits   skipped" in capsys.readouterr().out


@pytest.mark.torch
@pytest.mark.onnx
def test_onnx_runtime_takes_over_where_there_is_a_graph_and_says_why(with_graph, capsys):
    assert main(["run", with_graph, "--prompt", "The sheep", "--max-new-tokens", "2"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if WHY in line]
    assert "backend ort: onnxruntime" in line
    assert "not the fastest backend: " + WHY in line
