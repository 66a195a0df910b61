"""``build``: what does not go together is told at once; each form ends in a card, or JSON."""

import json
import os

import pytest
from doubles import tiny_architecture
from repository import ROOT

from merino_edge.cli.main import main
from merino_edge.formats.architecture import write_architecture

NANO_BUNDLE = str(ROOT / "tests" / "golden" / "tiny-nano-bundle")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with arch.json in it."""
    monkeypatch.chdir(tmp_path)
    write_architecture("arch.json", tiny_architecture())
    return tmp_path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "needs a checkpoint, an architecture, a bundle, or --config"),
        (["arch.json", "--config", "run.toml"], "--config says it all"),
        (["--config", "run.toml", "--random-weights"], "--config says it all"),
        (["--config", "run.toml", "--host", "user@board"], "--config says it all"),
        (["arch.json", "--cancel", "--random-weights"], "--cancel needs the bundle"),
        ([NANO_BUNDLE, "--random-weights"], "--random-weights comes too late"),
        ([NANO_BUNDLE, "--context", "64"], "--context comes too late"),
        ([NANO_BUNDLE, "--precision", "fp32"], "--precision comes too late"),
        ([NANO_BUNDLE, "--best", "8"], "--best comes too late"),
        ([NANO_BUNDLE, "--target", "host"], "--target comes too late"),
        (["arch.json", "--precision", "int5"], "invalid choice: 'int5'"),
    ],
)
@pytest.mark.torch
@pytest.mark.onnx
def test_what_does_not_go_together_is_told_and_nothing_is_made(here, words, told, capsys):
    before = sorted(os.listdir(here))
    assert main(["build", *words]) == 2
    printed = capsys.readouterr()
    assert told in printed.err
    assert printed.out == ""
    assert sorted(os.listdir(here)) == before


@pytest.mark.parametrize(
    ("target", "precision", "takes"),
    [
        ("nano", "int4-all", "it takes fp16 or fp32"),
        ("nano-cpu", "fp16", "it takes fp32, int8, int4 or int4-all"),
    ],
)
@pytest.mark.torch
@pytest.mark.onnx
def test_a_precision_that_the_target_does_not_take_is_told(here, target, precision, takes, capsys):
    words = ["arch.json", "--random-weights", "--target", target, "--precision", precision]
    assert main(["build", *words]) == 3
    assert takes in capsys.readouterr().err
    assert os.listdir(here) == ["arch.json"]


@pytest.mark.torch
@pytest.mark.onnx
def test_the_card_says_what_was_made_and_what_comes_next(here, capsys):
    assert main(["build", "arch.json", "--random-weights", "-q"]) == 0
    card = capsys.readouterr().out
    assert "bundle      bundle (" in card
    assert "golden tokens; logits within" in card
    assert "next        merino-edge bench bundle" in card


@pytest.mark.torch
@pytest.mark.onnx
def test_for_a_board_the_next_step_is_the_way_there(here, capsys):
    words = ["arch.json", "--random-weights", "--target", "nano", "-o", "out/nano", "-q"]
    os.mkdir("out")
    assert main(["build", *words]) == 0
    assert (
        "copy out/nano to the board, and there: merino-edge build nano" in capsys.readouterr().out
    )


@pytest.mark.torch
@pytest.mark.onnx
def test_json_holds_the_proof(here, capsys):
    assert main(["build", "arch.json", "--random-weights", "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)
    sizes = [os.path.getsize(os.path.join("bundle", name)) for name in os.listdir("bundle")]
    assert 0 < found["size_bytes"] <= sum(sizes)
    assert found["kv_cache_bytes"] > 0
    assert found["parity"]["golden_tokens"] > 0
    agreement = found["parity"]["against_torch"]
    assert 0 < agreement["max_abs_diff"] < 1e-4 * agreement["scale"]


@pytest.mark.torch
@pytest.mark.onnx
def test_a_bundle_that_is_there_is_not_replaced_unless_told(here, capsys):
    words = ["build", "arch.json", "--random-weights", "-q"]
    assert main(words) == 0
    assert main(words) == 2
    assert "exists" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
