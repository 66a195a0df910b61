"""Packed files are streams like any other, and one that ends too early is an error."""

import gzip
import lzma
import sys
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merino_edge.errors import FormatError, MissingDependencyError
from merino_edge.training import text_files
from merino_edge.training.text_files import read_lines, read_text


def packed(data: bytes, packing: str) -> bytes:
    """The bytes as a file with this ending holds them."""
    if packing == ".zst":
        return pytest.importorskip("zstandard").ZstdCompressor().compress(data)
    return {".gz": gzip.compress, ".xz": lzma.compress, "": bytes}[packing](data)


@pytest.fixture(params=text_files.PACKINGS, ids=lambda packing: packing or "plain")
def packing(request):
    return request.param


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(parts=st.lists(st.binary(max_size=50), min_size=1, max_size=5))
def test_lines_join_to_the_unpacked_bytes_wherever_archives_were_joined(tmp_path, packing, parts):
    path = tmp_path / ("lines" + packing)
    path.write_bytes(b"".join(packed(part, packing) for part in parts))
    lines, whole = list(read_lines(str(path))), b"".join(parts)
    assert b"".join(line.data for line in lines) == whole
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert all(whole[line.offset :].startswith(line.data) for line in lines)


@pytest.mark.parametrize("packing", text_files.PACKINGS[1:])
def test_an_archive_cut_anywhere_is_refused_and_never_a_shorter_text(tmp_path, packing):
    data = packed(b"".join(b"line %d\n" % n for n in range(40)), packing)
    path = tmp_path / ("cut" + packing)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(FormatError, match="the archive is damaged"):
            list(read_lines(str(path)))


@pytest.mark.parametrize("packing", text_files.PACKINGS[1:])
def test_an_archive_of_something_else_is_refused(tmp_path, packing):
    path = tmp_path / ("no" + packing)
    path.write_bytes(b"plain text under a false name\n")
    with pytest.raises(FormatError, match="the archive is damaged"):
        read_text(str(path))


def test_offsets_of_bad_bytes_count_unpacked_bytes(tmp_path, packing):
    path = tmp_path / ("latin" + packing)
    path.write_bytes(packed(b"ok\ncaf\xe9", packing))
    with pytest.raises(FormatError, match=r"not UTF-8 at byte 6 \(0xe9\)"):
        read_text(str(path))


def test_line_ends_become_line_feeds_and_a_byte_order_mark_goes(tmp_path):
    path = tmp_path / "windows.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_text(str(path)) == "one\ntwo\nthree\n"


def test_a_line_too_long_for_memory_is_refused_with_its_number(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "MAX_LINE_BYTES", 10)
    (tmp_path / "long.jsonl").write_bytes(b"short\n" + b"x" * 11)
    with pytest.raises(FormatError, match=r"long.jsonl: line 2: longer than 10 bytes"):
        list(read_lines(str(tmp_path / "long.jsonl")))


def test_without_zstandard_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "a.txt.zst").write_bytes(b"packed")
    with pytest.raises(MissingDependencyError, match="'zstandard' is not installed") as raised:
        read_text(str(tmp_path / "a.txt.zst"))
    assert raised.value.hint == "pip install 'merino-edge[train]'"


def test_memory_does_not_grow_with_the_file(tmp_path, packing):
    def peak_bytes(n_lines):
        path = tmp_path / ("many" + packing)
        path.write_bytes(packed(b"".join(b"%d " % n * 20 + b"\n" for n in range(n_lines)), packing))
        tracemalloc.start()
        for _ in read_lines(str(path)):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    small = peak_bytes(2_000)
    assert peak_bytes(40_000) < small + (4 << 20)  # 5 MB of text; buffers are a megabyte or two
