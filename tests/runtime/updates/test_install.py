"""Installing never touches the active slot, and refuses before it writes."""

import io
import os
import stat

import pytest
from update_store import changed_bundle, good_store, packed, passes, put

from merino_edge.errors import (
    ChecksumError,
    DeviceMemoryError,
    FormatError,
    MerinoError,
    SchemaVersionError,
    UnsupportedError,
    UsageError,
)
from merino_edge.formats import archive, jsonio, signing_keys
from merino_edge.formats.bundle import Bundle
from merino_edge.runtime.updates import install as installing
from merino_edge.runtime.updates import signing
from merino_edge.runtime.updates.install import InstallOptions, install
from merino_edge.runtime.updates.store import Store
from merino_edge.runtime.updates.switch import activate, confirm, rollback


@pytest.fixture
def store(tmp_path, archives):
    """Version 2 is active and good, in slot a."""
    return good_store(tmp_path / "store", archives["2"])


def tree(path):
    """Every file below a folder: name -> content."""
    found = {}
    for folder, _, names in os.walk(path):
        for name in names:
            with open(os.path.join(folder, name), "rb") as stream:
                found[os.path.relpath(os.path.join(folder, name), path)] = stream.read()
    return found


def test_it_goes_into_the_slot_that_is_not_active(store, archives):
    before = tree(store.slot("a"))
    done = put(store, archives["3"])
    assert (done.slot, done.contents.version, done.was_there) == ("b", "3", False)
    Bundle.open(store.bundle("b")).verify_checksums()
    assert tree(store.slot("a")) == before
    assert os.readlink(store.current) == "slots/a/bundle"


def test_the_same_again_writes_nothing(store, archives):
    put(store, archives["3"])
    before = os.stat(store.slot("b")).st_ino
    assert put(store, archives["3"]).was_there
    assert os.stat(store.slot("b")).st_ino == before


def test_the_same_again_mends_a_slot_that_was_damaged(store, archives):
    put(store, archives["3"])
    os.truncate(os.path.join(store.bundle("b"), "decoder.onnx"), 5)
    assert not put(store, archives["3"]).was_there
    Bundle.open(store.bundle("b")).verify_checksums()


def test_a_pipe_that_gives_little_at_a_time_is_read_to_its_end(store, archives):
    class Pipe(io.RawIOBase):
        def __init__(self, path):
            self.file = open(path, "rb")  # noqa: SIM115

        def read(self, size=-1):
            return self.file.read(min(size, 777))

    pipe = Pipe(archives["3"])
    install(store, pipe, "-")
    pipe.file.close()
    Bundle.open(store.bundle("b")).verify_checksums()


def test_a_wrong_archive_leaves_the_store_as_it_was(store, archives, tmp_path):
    put(store, archives["3"])
    before = tree(store.path)
    with open(packed(tmp_path / "4.mebundle", "4"), "rb") as stream:
        data = bytearray(stream.read())
    data[-3000] ^= 1
    with pytest.raises(ChecksumError, match="damaged on its way"):
        install(store, io.BytesIO(bytes(data)), "4")
    with pytest.raises(FormatError, match="ends early"):
        install(store, io.BytesIO(bytes(data[:50_000])), "4")
    assert tree(store.path) == before
    assert sorted(os.listdir(store.slots)) == ["a", "b"]


def test_a_manifest_that_lists_other_files_is_refused(store, tmp_path):
    folder = changed_bundle(tmp_path / "bundle")
    path = packed(tmp_path / "x.mebundle", "5", bundle=folder)
    with open(path, "rb") as stream:
        data = stream.read()
    told = data[512:].split(b"\0")[0]
    bundle_id = Bundle.open(folder).bundle_id.encode()
    index = told.replace(bundle_id, b"0" * 12)
    with pytest.raises(FormatError, match="do not name the same bundle"):
        install(store, io.BytesIO(data.replace(told, index)), "x")


def test_older_versions_are_refused_until_asked_for(store, archives):
    with pytest.raises(UnsupportedError, match="version 1 is older than 2") as caught:
        put(store, archives["1"])
    assert caught.value.exit_code == 3
    assert put(store, archives["1"], InstallOptions(allow_downgrade=True)).contents.version == "1"


def test_an_archive_without_a_version_counts_as_older(store, tmp_path):
    with pytest.raises(UnsupportedError, match=r"\(none\) is older"):
        put(store, packed(tmp_path / "x.mebundle"))


def schema_archive(number):
    name = f"merino-edge.bundle/{number}"
    file = archive.ArchivedFile("manifest.json", "0" * 64, 1)
    data = archive.index_bytes(archive.ArchiveIndex("x", "0" * 12, name, [file], "9"))
    head = archive.header(archive.INDEX, len(data)) + data + archive.padding(len(data))
    return io.BytesIO(head + archive.header("manifest.json", 1))


def test_a_newer_schema_is_refused_before_anything_is_written(store):
    with pytest.raises(SchemaVersionError, match="update merino-edge") as caught:
        install(store, schema_archive(2), "x")
    assert caught.value.exit_code == 3


def test_an_older_schema_is_refused_whatever_is_asked(store, monkeypatch):
    """As when this version read schema 3 and the active bundle had it."""
    monkeypatch.setattr(installing, "BUNDLE_SCHEMA", "merino-edge.bundle/3")
    held = store.held("a")
    newer = held._replace(contents=held.contents._replace(bundle_schema="merino-edge.bundle/3"))
    monkeypatch.setattr(store, "held", lambda slot: newer)
    for number in (1, 2):
        with pytest.raises(SchemaVersionError, match=r"older than the 'merino-edge\.bundle/3'"):
            install(store, schema_archive(number), "x", InstallOptions(allow_downgrade=True))


def test_an_archive_above_the_size_is_refused_by_what_it_declares(store, archives):
    with pytest.raises(FormatError, match="at most 1000 are taken"):
        put(store, archives["3"], InstallOptions(max_bytes=1000))


def test_a_disk_without_room_is_told_before_anything_is_written(store, archives, monkeypatch):
    monkeypatch.setattr(installing, "SPARE_BYTES", 1 << 60)
    with pytest.raises(DeviceMemoryError, match="MB free") as caught:
        put(store, archives["3"])
    assert caught.value.exit_code == 4
    assert os.listdir(store.slots) == ["a"]


def test_while_a_slot_is_on_trial_the_other_one_is_kept(store, archives):
    put(store, archives["3"])
    activate(store, passes)
    with pytest.raises(UsageError, match="on trial"):
        put(store, archives["3"])


def test_two_installs_do_not_meet(store, archives):
    with store.installing(), pytest.raises(MerinoError, match="another install"):
        put(Store(store.path), archives["3"])


def test_what_became_active_meanwhile_is_not_replaced(store, archives, tmp_path):
    """Somebody rolls back while an archive comes in over a slow line."""
    put(store, archives["3"])
    activate(store, passes)
    confirm(store)  # b is active and good, a was good
    path = packed(tmp_path / "4.mebundle", "4")

    class Slow(io.FileIO):
        asked = 0

        def read(self, size=-1):
            self.asked += 1
            if self.asked == 5:
                rollback(store)
            return super().read(size)

    with Slow(path) as stream, pytest.raises(UsageError, match="became the active one"):
        install(store, stream, path)
    assert store.held("a").contents.version == "2"


def test_a_damaged_index_of_the_active_slot_does_not_block_its_mending(store, archives):
    with open(os.path.join(store.slot("a"), archive.INDEX), "w") as stream:
        stream.write("{")
    assert put(store, archives["3"]).slot == "b"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    pytest.importorskip("nacl")
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        private, public = signing.new_key()
        signing_keys.write_private_key(str(folder / name), private, public)
        signing_keys.write_public_key(str(folder / (name + ".pub")), public)
    return folder


class TestSigned:
    """With a key in the store, nothing else is taken."""

    def signed(self, path, key, version="7"):
        private = signing_keys.read_private_key(str(key))
        public = signing.public_key_of(private)

        def sign(message):
            return signing_keys.signature_bytes(signing.sign(private, message), public)

        return packed(path, version, sign)

    @pytest.fixture
    def guarded(self, store, keys):
        with open(os.path.join(store.keys, "ours.pub"), "wb") as stream:
            stream.write((keys / "ours.pub").read_bytes())
        return store

    def test_a_signed_archive_is_taken_and_says_by_whom(self, guarded, keys, tmp_path):
        done = put(guarded, self.signed(tmp_path / "x", keys / "ours"))
        assert done.signed_by == signing_keys.read_public_key(str(keys / "ours.pub")).key_id

    def test_the_same_key_signs_the_same_bytes(self, keys, tmp_path):
        first = self.signed(tmp_path / "x", keys / "ours")
        second = self.signed(tmp_path / "y", keys / "ours")
        with open(first, "rb") as one, open(second, "rb") as two:
            assert one.read() == two.read()

    def test_unsigned_ones_are_refused(self, guarded, archives):
        with pytest.raises(FormatError, match="not signed") as caught:
            put(guarded, archives["3"])
        assert caught.value.exit_code == 8

    def test_another_key_is_refused_until_it_is_named(self, guarded, keys, tmp_path):
        path = self.signed(tmp_path / "x", keys / "theirs")
        with pytest.raises(FormatError, match="none of this store's"):
            put(guarded, path)
        assert put(guarded, path, InstallOptions(keys=[str(keys / "theirs.pub")])).signed_by

    def test_a_signature_does_not_pass_to_another_archive(self, guarded, keys, tmp_path):
        with open(self.signed(tmp_path / "x", keys / "ours", "7"), "rb") as stream:
            data = stream.read()
        changed = data.replace(b'"version": "7"', b'"version": "8"')
        with pytest.raises(FormatError, match="signature is wrong") as caught:
            install(guarded, io.BytesIO(changed), "x")
        assert caught.value.exit_code == 8

    def test_a_key_cannot_take_the_name_of_another(self, guarded, keys):
        ours = signing_keys.read_public_key(str(keys / "ours.pub"))
        theirs = signing_keys.read_public_key(str(keys / "theirs.pub"))
        path = os.path.join(guarded.keys, "ours.pub")
        disguised = theirs._replace(key_id=ours.key_id)
        jsonio.write_record(path, signing_keys.PUBLIC_SCHEMA, disguised)
        with pytest.raises(FormatError, match="not the name of this key"):
            put(guarded, self.signed(guarded.path + ".x", keys / "ours"))

    def test_a_key_file_that_is_damaged_is_no_reason_to_take_anything(self, guarded, archives):
        with open(os.path.join(guarded.keys, "ours.pub"), "w") as stream:
            stream.write("{")
        with pytest.raises(FormatError, match="not JSON"):
            put(guarded, archives["3"])

    def test_a_private_key_is_its_owners_alone_and_never_overwritten(self, keys):
        path = str(keys / "ours")
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with pytest.raises(UsageError, match="cannot be made again"):
            signing_keys.write_private_key(path, bytes(32), bytes(32))
        os.chmod(path, 0o640)
        with pytest.raises(UsageError, match="others may read"):
            signing_keys.read_private_key(path)
        os.chmod(path, 0o600)
