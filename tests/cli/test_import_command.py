"""``merino-edge import``: the card, the JSON document, and the exit codes."""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("gguf")

from tiny_gguf import TEMPLATE, write_gguf
from tiny_hf import FAMILIES, random_model, save_hf_folder

from merino_edge.cli.main import main
from merino_edge.model.checkpoint import load_checkpoint
from merino_edge.model.importers.presets import PRESETS


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


@pytest.mark.torch
def test_a_hugging_face_folder_gives_the_same_card(tmp_path, capsys):
    folder = save_hf_folder(tmp_path / "hf", random_model("opt-350m"))
    assert main(["import", folder, "-o", str(tmp_path / "ck")]) == 0
    shown = capsys.readouterr().out
    for words in (
        "family      opt",
        "3 of d 48, heads 4/4, ffn 96",
        "F32 x52; converted to float32",
        "note        the first two of its 66 rows of positions",
        "no chat template",
    ):
        assert words in shown


@pytest.mark.torch
def test_random_weights_need_a_configuration_only_and_say_what_they_are(tmp_path, capsys):
    kind, fields = FAMILIES["smollm2"]
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": kind, **fields}))
    out = str(tmp_path / "ck")
    assert main(["import", str(config), "--random-weights", "--seed", "5", "-o", out]) == 0
    assert "random, seed 5: for speed, not for text" in capsys.readouterr().out
    assert main(["import", "gpt2", "-o", out, "--force"]) == 2
    assert "--random-weights" in capsys.readouterr().err


def test_help_lists_every_preset_and_family(capsys):
    assert main(["import", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name in PRESETS:
        assert name in shown
    for family in ("Llama", "OPT", "GPT-2", "GPT-NeoX"):
        assert family in shown


def test_an_existing_checkpoint_needs_force(tmp_path, capsys):
    arguments = ["import", write_gguf(tmp_path), "-o", str(tmp_path / "ck"), "-q"]
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0
