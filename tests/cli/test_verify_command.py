"""``verify``: wrong words are told at once, and each check that was passed is told in a line."""

import json

import pytest
from repository import ROOT

from merino_edge.cli.commands import verify
from merino_edge.cli.main import main

BUNDLE = str(ROOT / "tests" / "golden" / "tiny-nano-bundle")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "verify needs a bundle or an ONNX file"),
        (["nowhere"], 8, "nowhere: not a bundle"),
        (["nowhere.onnx"], 8, "nowhere.onnx: the file does not exist"),
        ([BUNDLE, "--ranges", "nowhere.txt"], 2, "no file 'nowhere.txt' for --ranges"),
        ([BUNDLE, "--target", "toaster"], 2, "there is no target 'toaster'"),
    ],
)
def test_wrong_words_are_told_before_any_check(words, code, told, capsys):
    pytest.importorskip("onnx")
    assert main(["verify", *words]) == code
    printed = capsys.readouterr()
    assert told in printed.err
    assert printed.out == ""


def checks(out):
    """Name -> result of each line "ok"."""
    lines = [line.split(maxsplit=2) for line in out.splitlines()]
    assert all(line[0] == "ok" for line in lines)
    return {line[1]: line[2] for line in lines}


def without(monkeypatch, package):
    """As if it were not installed."""
    monkeypatch.setattr(verify, "_has", lambda name: name != package)


@pytest.mark.onnx
def test_every_check_of_a_boards_bundle_is_a_line(monkeypatch, capsys):
    without(monkeypatch, "tensorrt_rtx_bindings")
    assert main(["verify", BUNDLE, "--backend", "ort", "-q"]) == 0
    found = checks(capsys.readouterr().out)
    assert list(found) == ["files", "graph", "rules", "builder", "tokens", "logits"]
    assert found["files"] == "3 files match their sha256"
    assert found["rules"].startswith("the graph keeps the rules of 'nano'")
    assert found["builder"] == "skipped: TensorRT-RTX is not installed"


def test_without_onnx_the_graph_is_skipped_with_a_word(monkeypatch, capsys):
    without(monkeypatch, "onnx")
    monkeypatch.setattr(verify, "_check_builder", lambda bundle, report: None)
    assert main(["verify", BUNDLE, "--backend", "reference", "-q"]) == 0
    assert "skipped: it needs Python 3.10 or later" in capsys.readouterr().out


@pytest.mark.onnx
def test_the_reference_is_not_compared_with_itself(capsys):
    host = str(ROOT / "tests" / "golden" / "tiny-bundle")
    assert main(["verify", host, "--backend", "reference", "-q"]) == 0
    assert checks(capsys.readouterr().out)["logits"].startswith("skipped: the numpy reference")


@pytest.mark.onnx
def test_json_holds_the_same_checks(monkeypatch, capsys):
    without(monkeypatch, "tensorrt_rtx_bindings")
    assert main(["verify", BUNDLE, "--backend", "ort", "-q"]) == 0
    lines = checks(capsys.readouterr().out)
    assert main(["verify", BUNDLE, "--backend", "ort", "-q", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {each["check"]: each["result"] for each in document} == lines


@pytest.mark.onnx
def test_ranges_tells_the_largest_activation_of_a_text(tmp_path, monkeypatch, capsys):
    without(monkeypatch, "tensorrt_rtx_bindings")
    (tmp_path / "text.txt").write_text("The shepherd counts the sheep on the hill.")
    words = [BUNDLE, "--ranges", str(tmp_path / "text.txt"), "--backend", "ort"]
    assert main(["verify", *words]) == 0
    printed = capsys.readouterr()
    assert "of 65504 at '/" in checks(printed.out)["ranges"]
    (tmp_path / "text.txt").write_text("")
    assert main(["verify", *words]) == 2
    assert "text is empty" in capsys.readouterr().err


def write_graph(path, op):
    """One node between a float input and output."""
    import onnx

    node = onnx.helper.make_node(op, ["x"], ["y"], name="/node")
    x, y = (onnx.helper.make_tensor_value_info(name, 1, ["q", 4]) for name in "xy")
    graph = onnx.helper.make_graph([node], "one", [x], [y])
    opsets = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), str(path))


@pytest.mark.onnx
def test_an_onnx_file_is_held_to_the_rules_of_a_nano(tmp_path, capsys):
    write_graph(tmp_path / "good.onnx", "Relu")
    assert main(["verify", str(tmp_path / "good.onnx"), "-q"]) == 0
    assert checks(capsys.readouterr().out)["rules"].startswith(
        "the graph keeps the rules of 'nano'"
    )
    write_graph(tmp_path / "bad.onnx", "NonZero")
    assert main(["verify", str(tmp_path / "bad.onnx"), "-q"]) == 3
    error = capsys.readouterr().err
    assert (
        "breaks rules of target 'nano', 2 of them; the first at '/node'" in error
    )  # its type is wrong too
    assert "verify --rules --target nano lists the rules" in error


@pytest.mark.onnx
def test_the_rules_are_listed_with_their_sources(capsys):
    assert main(["verify", "--rules", "--target", "nano"]) == 0
    table = capsys.readouterr().out
    assert main(["verify", "--rules", "--target", "nano", "--json"]) == 0
    rules = json.loads(capsys.readouterr().out)
    assert len(rules) > 10
    for rule in rules:
        assert rule["id"] in table
        assert rule["source"]
