"""Updates under the board's Python: the workstation's bytes, the same walk, the same signatures.

This file itself obeys the rules of Python 3.6.
"""

import hashlib
import json
import os
import sys

import pytest

sys.path.append(os.path.join(os.path.dirname(__file__), ".."))
from update_store import (
    GOLDEN_ARCHIVE_SHA256,
    GOLDEN_BUNDLE,
    changed_bundle,
    packed,
    wrong_golden,
)

from merino_edge.cli.main import main
from merino_edge.errors import FormatError
from merino_edge.runtime.updates import signing

TEST = ["--backend", "reference", "-q"]
# RFC 8032, section 7.1, test 2: private key, public key, message, signature.
RFC_KEY = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
RFC_PUBLIC = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
RFC_SIGNATURE = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_an_archive_has_the_same_bytes_on_every_python(tmp_path):
    with open(packed(tmp_path / "x.mebundle", "1.2.0"), "rb") as stream:
        assert hashlib.sha256(stream.read()).hexdigest() == GOLDEN_ARCHIVE_SHA256


def test_signatures_are_those_of_the_standard():
    pytest.importorskip("nacl")
    private, message = bytes.fromhex(RFC_KEY), b"\x72"
    assert signing.public_key_of(private).hex() == RFC_PUBLIC
    assert signing.sign(private, message).hex() == RFC_SIGNATURE
    signing.check(bytes.fromhex(RFC_PUBLIC), message, bytes.fromhex(RFC_SIGNATURE), "x")
    with pytest.raises(FormatError, match="signature is wrong"):
        signing.check(bytes.fromhex(RFC_PUBLIC), b"\x73", bytes.fromhex(RFC_SIGNATURE), "x")


def test_a_device_is_updated_and_goes_back(tmp_path, capsys):
    def bundle(verb, *words):
        return main(["bundle", verb, "--store", str(tmp_path / "store")] + list(words))

    assert bundle("install", packed(tmp_path / "1.mebundle", "1")) == 0
    assert bundle("activate", *TEST) == 0
    assert bundle("boot") == 0
    assert bundle("confirm") == 0
    assert bundle("install", packed(tmp_path / "2.mebundle", "2")) == 0
    assert bundle("activate", *TEST) == 0
    for _ in range(4):
        assert bundle("boot") == 0
    wrong = changed_bundle(tmp_path / "wrong", golden=wrong_golden())
    assert bundle("install", packed(tmp_path / "3.mebundle", "3", bundle=wrong)) == 0
    assert bundle("activate", *TEST) == 5
    capsys.readouterr()
    assert bundle("list", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [slot["status"] for slot in found["slots"]] == ["good", "failed"]
    assert os.path.samefile(found["current"], str(tmp_path / "store" / "slots" / "a" / "bundle"))
    assert os.path.isdir(GOLDEN_BUNDLE)
