"""The weights file: literal layout, aligned, readable by safetensors, and refused when damaged."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino_edge.errors import FormatError
from merino_edge.formats.weights import PAGE_BYTES, read_index, write_weights


def write(path, arrays):
    write_weights(str(path), [(n, "F32", a.shape, a.tobytes()) for n, a in arrays.items()])
    return str(path)


def arrays(*shapes):
    rng = np.random.RandomState(0)
    return {f"t{i}": rng.standard_normal(s).astype("<f4") for i, s in enumerate(shapes)}


def test_the_bytes_are_header_page_and_raw_data(tmp_path):
    path = write(tmp_path / "w", {"a": np.array([1.0, 2.0], "<f4")})
    with open(path, "rb") as stream:
        data = stream.read()

    assert struct.unpack("<Q", data[:8])[0] == PAGE_BYTES - 8
    text = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    assert data[8:PAGE_BYTES] == text.encode().ljust(PAGE_BYTES - 8)
    assert data[PAGE_BYTES:] == struct.pack("<ff", 1.0, 2.0)


def test_every_large_tensor_starts_on_a_64_byte_line_whatever_stands_between(tmp_path):
    path = write(tmp_path / "w", arrays((3,), (16, 16), (5,), (32, 4), (1,)))
    entries = read_index(path)

    assert all(e.offset % 64 == 0 for e in entries.values() if e.n_bytes % 64 == 0)


@given(st.lists(st.lists(st.integers(0, 5), max_size=3).map(tuple), min_size=1, max_size=6))
def test_the_safetensors_library_reads_what_we_write(tmp_path_factory, shapes):
    load_file = pytest.importorskip("safetensors.numpy").load_file
    expected = arrays(*shapes)
    path = write(tmp_path_factory.mktemp("w") / "w.safetensors", expected)
    found = load_file(path)

    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("keep", [0, 7, 8, 100, 4095, 4096, 4100])
def test_a_file_cut_anywhere_is_refused(tmp_path, keep):
    path = write(tmp_path / "w", arrays((16, 16), (3,)))
    with open(path, "r+b") as stream:
        stream.truncate(keep)
    with pytest.raises(FormatError, match=path):
        read_index(path)


def test_bytes_after_the_end_are_refused_with_both_sizes(tmp_path):
    path = write(tmp_path / "w", arrays((16,)))
    with open(path, "ab") as stream:
        stream.write(b"x")
    with pytest.raises(FormatError, match=r"has 4161 bytes, its header describes 4160"):
        read_index(path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}, "dtype 'F99'"),
        ({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}, "8 bytes stored, 12 expected"),
        ({"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}, "must be whole numbers"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}, "-8 bytes stored"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}, "overlap or leave a gap"),
        ({"dtype": "F32", "shape": [2]}, "not a safetensors header"),
        (7, "not a safetensors header"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, entry, message):
    head = json.dumps({"a": entry}).encode()
    (tmp_path / "w").write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
    with pytest.raises(FormatError, match=message):
        read_index(str(tmp_path / "w"))


@given(st.binary(max_size=200))
def test_random_bytes_are_a_format_error_never_another(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("w") / "w"
    path.write_bytes(struct.pack("<Q", max(0, len(data) - 8)) + data)
    with pytest.raises(FormatError):
        read_index(str(path))
