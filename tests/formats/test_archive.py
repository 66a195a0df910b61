"""An archive is the same for the same bundle, and a reader takes exactly what the writer writes."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile

import pytest
from update_store import (
    GOLDEN_ARCHIVE_SHA256,
    GOLDEN_BUNDLE,
    archive_of,
    changed_bundle,
    members,
    packed,
    tar_of,
)

from merino_edge.errors import ChecksumError, FormatError, SchemaVersionError, SpecError, UsageError
from merino_edge.formats import archive
from merino_edge.formats.archive_reader import ArchiveReader
from merino_edge.formats.archive_writer import pack
from merino_edge.formats.bundle import Bundle


def read(data):
    """Everything in an archive: name -> content."""
    reader = ArchiveReader(io.BytesIO(data), "x.mebundle")
    found = {}
    for file in reader.index.files:
        pieces = []
        reader.copy(file, pieces.append)
        found[file.name] = b"".join(pieces)
    reader.finish()
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = packed(tmp_path_factory.mktemp("archive") / "golden.mebundle", "1.2.0")
    with open(path, "rb") as stream:
        return stream.read()


def test_the_bytes_of_the_golden_archive_are_those_of_every_python(data):
    assert hashlib.sha256(data).hexdigest() == GOLDEN_ARCHIVE_SHA256


def test_owner_time_and_order_of_the_files_do_not_matter(data, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in sorted(os.listdir(GOLDEN_BUNDLE), reverse=True):
        shutil.copy(os.path.join(GOLDEN_BUNDLE, name), copy / name)
        os.utime(copy / name, (1, 1))
        os.chmod(copy / name, 0o600)
    with open(packed(tmp_path / "copy.mebundle", "1.2.0", bundle=copy), "rb") as stream:
        assert stream.read() == data


def test_what_is_read_is_what_was_packed(data):
    assert read(data) == dict(members())


def test_any_tar_lists_it(data, tmp_path):
    (tmp_path / "a.tar").write_bytes(data)
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames() == ["archive.json", *dict(members())]
    if shutil.which("tar"):
        listed = subprocess.check_output(["tar", "-tf", str(tmp_path / "a.tar")], text=True)
        assert listed.split() == ["archive.json", *dict(members())]


@pytest.mark.parametrize("n_bytes", [0, 100, 512, 1500, 40_000, -1024, -512, -1])
def test_a_cut_archive_is_refused(data, n_bytes):
    with pytest.raises(FormatError, match="ends early"):
        read(data[:n_bytes])


def test_what_follows_the_end_is_refused(data):
    for more in (b"\0", bytes(512), b"x"):
        with pytest.raises(FormatError, match="follows the last file"):
            read(data + more)


def test_a_flipped_bit_is_noticed_wherever_it_is(data):
    for place in range(0, len(data), 397):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(FormatError):
            read(bytes(changed))


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
        (tarfile.DIRTYPE, "folder"),
    ],
)
def test_links_devices_pipes_and_folders_are_refused_by_name(kind, word):
    def change(info):
        if info.name == "decoder.onnx":
            info.type, info.linkname = kind, "/etc/passwd"

    with pytest.raises(FormatError, match=f"decoder.onnx was expected, there is a {word}"):
        read(tar_of(change))


def test_a_member_that_the_index_does_not_know_is_refused():
    with pytest.raises(FormatError, match="the end was expected, there is a file 'more'"):
        read(tar_of(extra=[tarfile.TarInfo("more")]))


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/passwd",
        "a/../../x",
        "./x",
        "a//b",
        "..\\x",
        "..",
        ".hidden",
        "a/.ssh/b",
        "",
        "a\nb",
        "é",
        "x" * 101,
        "a/",
    ],
)
def test_names_that_leave_their_folder_or_hide_are_refused(name):
    files = list(members())
    index = json.loads(archive_of(files)[512:].split(b"\0")[0])
    index["files"][1]["name"] = name
    text = json.dumps(index, indent=2, ensure_ascii=False) + "\n"
    with pytest.raises(FormatError, match="leaves its folder"):
        read(archive_of(files, text.encode()))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["manifest.json", "a", "a"], "is there twice"),
        (["manifest.json", "a", "a/b"], "lies below another file"),
        (["a", "manifest.json"], "first file is not manifest.json"),
        (["manifest.json", "archive.sig"], "is the archive's own"),
        ([], "first file is not manifest.json"),
    ],
)
def test_lists_that_no_bundle_has_are_refused(names, told):
    with pytest.raises(FormatError, match=told):
        read(archive_of([(name, b"x") for name in names]))


def test_a_declared_size_beyond_all_measure_allocates_nothing(data):
    header = archive.header(archive.INDEX, 8**11 - 1)
    with pytest.raises(FormatError, match="at most"):
        read(header + data[512:])


def test_another_schema_is_told_apart_from_something_else():
    index = archive.index_bytes(archive.ArchiveIndex("x", "0" * 12, "merino-edge.bundle/1", []))
    with pytest.raises(SchemaVersionError, match=r"archive/7.*archive/1"):
        read(archive_of([], index.replace(b"archive/1", b"archive/7")))
    with pytest.raises(FormatError, match="expected"):
        read(archive_of([], b'{"schema": "else"}'))


def test_an_index_is_written_in_one_way_only(data):
    index = data[512:].split(b"\0")[0].replace(b'"name": "tiny"', b'"name":  "tiny"')
    with pytest.raises(FormatError, match="not written as an index is"):
        read(archive_of(list(members()), index))


def test_a_number_of_a_million_digits_is_refused_at_once():
    with pytest.raises(FormatError, match="thousands of digits"):
        read(archive_of([], b'{"schema": ' + b"1" * 1_000_000 + b"}"))


def test_a_name_that_would_move_the_cursor_is_refused(tmp_path):
    bundle = Bundle.open(changed_bundle(tmp_path / "b", name="tiny\x1b[2J"))
    with pytest.raises(FormatError, match="control characters"):
        pack(bundle, str(tmp_path / "x.mebundle"))


def test_a_file_that_changed_since_the_bundle_was_made_is_not_packed(tmp_path):
    bundle = Bundle.open(changed_bundle(tmp_path / "b"))
    with open(bundle.file("weights"), "r+b") as stream:
        stream.write(b"x")
    with pytest.raises(ChecksumError, match="the manifest says"):
        pack(bundle, str(tmp_path / "x.mebundle"))
    assert sorted(os.listdir(tmp_path)) == ["b"]


def test_an_archive_is_replaced_only_when_asked(tmp_path):
    packed(tmp_path / "x.mebundle")
    with pytest.raises(UsageError, match="exists"):
        packed(tmp_path / "x.mebundle")


@pytest.mark.parametrize(
    ("older", "newer"), [("1.4", "1.4.1"), ("1.9", "1.10"), ("0", "0.0.1"), ("2", "10")]
)
def test_versions_compare_as_numbers(older, newer):
    assert archive.version_numbers(older) < archive.version_numbers(newer)
    assert archive.version_numbers(older) == archive.version_numbers(older + ".0")


@pytest.mark.parametrize("version", ["", "1.", "v1", "1.2.3.4.5", "1-2", "\uff11", "1\n", "-1"])
def test_a_version_is_numbers_with_dots(version):
    with pytest.raises(SpecError):
        archive.version_numbers(version)
