"""Bundles for the native decoder on a machine that lacks its library: someone else, and why."""

import pytest
from doubles import native_bundle

from merino_edge.cli.main import main

WHY = "the package 'libmerino_edge.so' is not installed"
MEND = "pip install merino-edge where there is a C compiler"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return native_bundle(tmp_path_factory.mktemp("alone") / "bundle")


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
