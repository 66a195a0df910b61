"""``merino-edge import``: the card, the JSON document, and the exit codes."""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("gguf")

from tiny_gguf import TEMPLATE, write_gguf

from merino_edge.cli.main import main
from merino_edge.model.checkpoint import load_checkpoint


def test_the_card_says_what_was_found_and_what_to_type_next(tmp_path, capsys):
    out = str(tmp_path / "ck")
    assert main(["import", write_gguf(tmp_path, storage="Q8_0"), "-o", out]) == 0
    shown, progress = capsys.readouterr()
    for words in ("family      llama", "Q8_0 x15, F32 x5", "2 of d 64, heads 4/2, ffn 96"):
        assert words in shown
    assert "roles assistant, system, user" in shown
    assert shown.splitlines()[-1].endswith(f"merino-edge build --target host {out} -o bundle/")
    assert "import" in progress


def test_json_holds_the_same_and_quiet_is_quiet(tmp_path, capsys):
    out = str(tmp_path / "ck")
    trimmed = TEMPLATE.replace("m['content']", "m['content'] | trim")
    path = write_gguf(tmp_path, template=trimmed)
    assert main(["import", path, "-o", out, "--json", "--quiet"]) == 0
    shown, progress = capsys.readouterr()
    facts = json.loads(shown)
    stored = load_checkpoint(out)
    assert facts["n_params"] == sum(t.size for t in stored.tensors().values())
    assert facts["arch_id"] == stored.architecture.arch_id
    assert facts["chat"] is None
    assert "differs for" in facts["chat_reason"]
    assert progress == ""


@pytest.mark.parametrize(
    ("damage", "code", "word"),
    [
        (lambda path: os.truncate(path, 5000), 8, "ends at byte 5000"),
        (lambda path: Path(path).write_bytes(b"hello world"), 8, "not a GGUF file"),
        (os.remove, 8, "does not exist"),
    ],
)
def test_a_damaged_file_ends_in_one_error_and_no_folder(tmp_path, capsys, damage, code, word):
    path = write_gguf(tmp_path)
    damage(path)
    assert main(["import", path, "-o", str(tmp_path / "ck")]) == code
    shown, error = capsys.readouterr()
    assert shown == ""
    assert error.startswith("error: ")
    assert word in error
    assert not (tmp_path / "ck").exists()


def test_a_folder_without_a_configuration_is_no_model(tmp_path, capsys):
    write_gguf(tmp_path)
    assert main(["import", str(tmp_path), "-o", str(tmp_path / "ck")]) == 8
    error = capsys.readouterr().err
    assert "no config.json" in error
    assert f"merino-edge import {tmp_path / 'tiny.gguf'} -o" in error


def test_an_existing_checkpoint_needs_force(tmp_path, capsys):
    arguments = ["import", write_gguf(tmp_path), "-o", str(tmp_path / "ck"), "-q"]
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0
