"""``verify``: wrong words are told at once, before anything long is done."""

import pytest
from repository import ROOT

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
