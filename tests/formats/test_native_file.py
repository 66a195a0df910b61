"""The native file: literal bytes, every place where its docstring says, refused when damaged."""

import os
import struct

import pytest
from doubles import llama_architecture, tiny_architecture
from hypothesis import given
from hypothesis import strategies as st

from merino_edge.errors import FormatError, SchemaVersionError
from merino_edge.formats import native_file
from merino_edge.formats.native_file import F32, Q4, Q8, plan, read_tensors, tensor_kinds
from merino_edge.formats.weights import weight_shapes

SMALL = tiny_architecture(vocab_size=24, max_seq_len=8)
GOLDEN = os.path.join(os.path.dirname(__file__), "..", "golden", "tiny-int4.merino")


def golden_copy(tmp_path):
    with open(GOLDEN, "rb") as stream:
        data = bytearray(stream.read())
    path = tmp_path / "model.merino"
    path.write_bytes(data)
    return path, data


def test_the_header_and_config_of_the_golden_file_are_the_documented_bytes():
    with open(GOLDEN, "rb") as stream:
        data = stream.read()

    assert data[:8] == b"MERINO\0\2"
    assert struct.unpack("<QIIII", data[8:32]) == (len(data), 64, 2, 34, 192)
    assert struct.unpack("<Q", data[32:40]) == (4096,)
    assert data[40:64] == bytes(24)
    assert struct.unpack("<4I", data[64:80]) == (24, 8, 16, 0)
    assert struct.unpack("<fIf", data[80:92]) == (pytest.approx(1e-5), 0, 10000.0)
    assert struct.unpack("<5I", data[92:112]) == (0, 0, 1, 1, 1)
    assert data[112:128] == bytes(16)
    assert struct.unpack("<8I", data[128:160]) == (16, 2, 2, 8, 32, 2, 0, 0)
    assert struct.unpack("<8I", data[160:192]) == (24, 2, 2, 12, 40, 1, 16, 0)
    assert struct.unpack("<4I2Q", data[192:224]) == (1, 24, 16, 0, 4096, 2 * 512 + 2 * 32)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4", "int4-all"])
@pytest.mark.parametrize("architecture", [SMALL, llama_architecture()])
def test_tensors_lie_in_order_on_64_byte_lines_without_overlap(architecture, precision):
    layout = plan(architecture, tensor_kinds(architecture, precision))

    assert list(layout.tensors) == list(weight_shapes(architecture))
    end = len(layout.head)
    for tensor in layout.tensors.values():
        assert tensor.offset % 64 == 0
        assert tensor.scales_offset % 64 == 0 or tensor.kind == F32
        assert tensor.offset >= end
        end = tensor.offset + tensor.n_bytes
    assert end <= layout.file_bytes < end + 64


def test_only_matrices_are_quantised():
    kinds = tensor_kinds(SMALL, "int8")

    assert {n for n, kind in kinds.items() if kind == Q8} == {
        n for n, shape in weight_shapes(SMALL).items() if len(shape) == 2
    } - {"pos_embed.weight"}


def test_words_keep_8_bits_unless_all_matrices_shall_have_4():
    def of_4_bits(precision):
        return {n for n, kind in tensor_kinds(SMALL, precision).items() if kind == Q4}

    matrices = {n for n, kind in tensor_kinds(SMALL, "int8").items() if kind == Q8}
    assert matrices - of_4_bits("int4") == {"embed.weight"}
    assert of_4_bits("int4-all") == matrices


def test_sizes_pad_rows_to_16_and_columns_to_32():
    assert native_file.tensor_bytes(F32, 3, 5) == 60
    assert native_file.tensor_bytes(Q8, 17, 33) == 4 * (512 + 32)
    assert native_file.tensor_bytes(Q4, 16, 32) == 256 + 2 * 32


def test_the_golden_file_is_read_back_as_it_was_planned():
    assert read_tensors(GOLDEN, SMALL) == plan(SMALL, tensor_kinds(SMALL, "int4")).tensors


@given(at=st.integers(0, 192 + 34 * 32 - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_in_the_head_goes_unnoticed(tmp_path_factory, at, bit):
    path, data = golden_copy(tmp_path_factory.mktemp("flip"))
    data[at] ^= 1 << bit
    path.write_bytes(data)

    with pytest.raises(FormatError, match=r"model\.merino"):
        read_tensors(str(path), SMALL)


@pytest.mark.parametrize("keep", [0, 7, 63, 64, 200, 1000, 4095, 4096, -1])
def test_a_file_cut_anywhere_is_refused(tmp_path, keep):
    path, data = golden_copy(tmp_path)
    path.write_bytes(data[:keep])

    with pytest.raises(FormatError):
        read_tensors(str(path), SMALL)


def test_another_architecture_is_refused_with_the_part_that_differs(tmp_path):
    path, _ = golden_copy(tmp_path)

    with pytest.raises(FormatError, match="config"):
        read_tensors(str(path), SMALL.replace(norm_eps=1e-6))


@pytest.mark.parametrize("version", [1, 4])
def test_another_version_says_so(tmp_path, version):
    path, data = golden_copy(tmp_path)
    data[7] = version
    path.write_bytes(data)

    with pytest.raises(SchemaVersionError, match=f"version {version} .* reads 2 and 3"):
        read_tensors(str(path), SMALL)


@pytest.mark.parametrize(
    ("changes", "config", "n_rotated"),
    [
        ({"norm_place": "post"}, (1, 0, 0, 0), (0, 0)),
        ({"final_norm": False}, (0, 1, 0, 0), (0, 0)),
        ({"parallel_residual": True}, (0, 0, 1, 0), (0, 0)),
        ({"position": "rope", "rope_fraction": 0.5}, (0, 0, 0, 0), (4, 6)),
    ],
)
def test_what_version_2_cannot_say_is_version_3(changes, config, n_rotated):
    a = SMALL.replace(**changes)
    head = plan(a, tensor_kinds(a, "int8")).head

    assert head[:8] == b"MERINO\0\3"
    assert struct.unpack("<4I", head[112:128]) == config
    assert struct.unpack("<I28xI", head[156:192]) == n_rotated


@pytest.mark.parametrize("architecture", [SMALL, llama_architecture(), SMALL.replace(d_embed=8)])
def test_what_version_2_can_say_stays_version_2(architecture):
    head = plan(architecture, tensor_kinds(architecture, "int8")).head

    assert head[:8] == b"MERINO\0\2"
    assert head[112:128] == bytes(16)


def test_a_file_that_differs_in_how_it_is_computed_is_refused(tmp_path):
    path, _ = golden_copy(tmp_path)

    for changes in ({"norm_place": "post"}, {"parallel_residual": True}):
        with pytest.raises(FormatError, match="byte 7 is 2, the architecture says 3"):
            read_tensors(str(path), SMALL.replace(**changes))


def test_a_missing_file_is_a_format_error(tmp_path):
    with pytest.raises(FormatError, match="does not exist"):
        read_tensors(str(tmp_path / "none"), SMALL)
