"""``bundle``: from a folder to a device that was updated, in the words that people type."""

import json
import os
import re
import stat

import pytest
from update_store import GOLDEN_BUNDLE, changed_bundle, packed, wrong_golden

from merino_edge.cli.main import main

TEST = ["--backend", "reference", "-q"]


@pytest.fixture
def bundle(tmp_path):
    """Runs a verb on a store in a folder of its own."""

    def run(verb, *words):
        store = [] if verb in ("pack", "keygen") else ["--store", str(tmp_path / "store")]
        return main(["bundle", verb, *store, *words])

    return run


def test_pack_sign_install_activate_confirm_list_and_run(bundle, tmp_path, capsys):
    pytest.importorskip("nacl")
    key, archive = str(tmp_path / "product.key"), str(tmp_path / "p.mebundle")
    assert bundle("keygen", "-o", key) == 0
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600
    os.makedirs(str(tmp_path / "store" / "keys"))
    os.rename(key + ".pub", str(tmp_path / "store" / "keys" / "product.pub"))
    assert bundle("pack", GOLDEN_BUNDLE, "--version", "1.4.0", "--key", key, "-o", archive) == 0
    assert bundle("install", archive) == 0
    assert bundle("activate", *TEST) == 0
    assert bundle("boot") == 0
    assert bundle("confirm") == 0
    capsys.readouterr()
    assert bundle("list", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["active"] == "a"
    slot = found["slots"][0]
    assert (slot["status"], slot["version"], slot["name"]) == ("good", "1.4.0", "tiny")
    assert main(["run", found["current"], "--prompt", "The sheep", "--backend", "reference"]) == 0
    assert bundle("list") == 0
    assert re.search(r"\| a +\| +yes \| +good \| tiny \| +1.4.0 \|", capsys.readouterr().out)


def test_every_way_of_failing_has_its_code(bundle, tmp_path, capsys):
    one = packed(tmp_path / "1.mebundle", "1")
    assert bundle("boot") == 2
    assert bundle("install", str(tmp_path / "none")) == 2
    assert bundle("install", one) == 0
    assert bundle("activate", *TEST) == 0
    assert bundle("confirm") == 0
    assert bundle("install", packed(tmp_path / "0.mebundle", "0.9")) == 3
    with open(one, "rb") as stream:
        data = stream.read()
    (tmp_path / "cut").write_bytes(data[:-2000])
    assert bundle("install", str(tmp_path / "cut"), "--allow-downgrade") == 8
    wrong = changed_bundle(tmp_path / "wrong", golden=wrong_golden())
    assert bundle("install", packed(tmp_path / "w.mebundle", "2", bundle=wrong)) == 0
    capsys.readouterr()
    assert bundle("activate", *TEST) == 5
    told = capsys.readouterr().err
    assert "error: self-test failed: token 3 of golden prompt" in told
    assert bundle("rollback") == 0  # the slot that failed was left before


def test_a_verb_asked_wrongly_names_itself(bundle, capsys):
    assert bundle("install") == 2
    assert "hint: merino-edge bundle install --help" in capsys.readouterr().err
    assert main(["bundle"]) == 2


def test_json_of_each_verb_is_one_document(bundle, tmp_path, capsys):
    archive = str(tmp_path / "p.mebundle")
    for words in (
        ["pack", GOLDEN_BUNDLE, "-o", archive],
        ["install", archive],
        ["activate", *TEST],
        ["self-test", *TEST],
        ["boot"],
        ["confirm"],
        ["list"],
    ):
        assert bundle(*words, "--json") == 0
        assert isinstance(json.loads(capsys.readouterr().out), dict)
