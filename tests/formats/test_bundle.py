"""A bundle vouches for its files, and nothing outside it can be reached through it."""

import json
import os

import pytest
from doubles import tiny_bundle

from merino_edge.errors import ChecksumError, FormatError, SchemaVersionError, UsageError
from merino_edge.formats.bundle import MANIFEST, Bundle, folder_in_place
from merino_edge.formats.manifest import ChatFormat, KVCacheSpec, RoleFormat


@pytest.fixture
def bundle(tmp_path):
    return Bundle.open(tiny_bundle(tmp_path / "bundle"))


def change_manifest(bundle, **fields):
    path = os.path.join(bundle.path, MANIFEST)
    with open(path, encoding="utf-8") as stream:
        document = dict(json.load(stream), **fields)
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(document, stream)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../secret", "./x", "a//b", "..\\secret", ".."]
)
def test_a_path_that_leaves_the_bundle_is_refused(bundle, name):
    entry = {"sha256": "0" * 64, "size_bytes": 1, "role": "onnx"}
    change_manifest(bundle, files={name: entry})
    with pytest.raises(FormatError, match="leaves the bundle"):
        Bundle.open(bundle.path)


def test_a_link_in_place_of_a_file_is_refused(bundle, tmp_path):
    path = bundle.file("weights")
    os.rename(path, str(tmp_path / "elsewhere"))
    os.symlink(str(tmp_path / "elsewhere"), path)
    with pytest.raises(FormatError, match="missing or a link"):
        Bundle.open(bundle.path)


def test_an_unknown_schema_is_refused_with_both_names(bundle):
    change_manifest(bundle, schema="merino-edge.bundle/9")
    with pytest.raises(SchemaVersionError, match=r"bundle/9.*bundle/1"):
        Bundle.open(bundle.path)


def test_a_file_of_another_size_is_noticed_on_opening(bundle):
    with open(bundle.file("weights"), "ab") as stream:
        stream.write(b"x")
    with pytest.raises(ChecksumError, match=r"bytes, the manifest says"):
        Bundle.open(bundle.path)


def test_a_folder_without_a_manifest_says_how_to_make_one(tmp_path):
    with pytest.raises(FormatError, match="not a bundle") as caught:
        Bundle.open(str(tmp_path))
    assert "merino-edge build" in str(caught.value)


def test_an_interrupted_folder_vanishes(tmp_path):
    def fill():
        with folder_in_place(str(tmp_path / "x"), "m") as folder:
            with open(os.path.join(folder, "m"), "w") as stream:
                stream.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill()
    assert os.listdir(tmp_path) == []


def test_an_empty_folder_may_be_filled_and_another_may_not(tmp_path):
    (tmp_path / "empty").mkdir()
    with folder_in_place(str(tmp_path / "empty"), "m") as folder:
        open(os.path.join(folder, "m"), "w").close()
    assert os.listdir(tmp_path / "empty") == ["m"]

    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError), folder_in_place(str(tmp_path / "file"), "m", force=True):
        pass


def test_the_cache_counts_one_hidden_row_and_every_layer():
    spec = KVCacheSpec(layers=[(2, 8), (2, 8), (1, 16)], context_len=31)
    assert spec.bytes_per_token == 2 * 4 * (16 + 16 + 16)
    assert spec.total_bytes == 32 * spec.bytes_per_token
    assert spec._replace(dtype="float16").total_bytes == spec.total_bytes // 2


def test_a_conversation_becomes_one_prompt():
    chat = ChatFormat(
        {"system": RoleFormat("<s>", "</s>"), "user": RoleFormat("<u>", "</u>")}, "<a>", "Be kind."
    )
    asked = [{"role": "user", "content": "Hi"}]
    assert chat.render(asked) == "<s>Be kind.</s><u>Hi</u><a>"
    assert chat.render([{"role": "system", "content": "X"}, *asked]) == "<s>X</s><u>Hi</u><a>"
    with pytest.raises(ValueError, match="'tool' is not one of system, user"):
        chat.render([{"role": "tool", "content": ""}])
