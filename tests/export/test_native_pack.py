"""The packer: golden bytes, every value where the format says, and numpy reads back the same."""

import os

import numpy as np
import pytest
from doubles import llama_architecture, random_tensors, tiny_architecture
from model_families import MIXTURES, NATIVE_FILES

from merino_edge.errors import FormatError
from merino_edge.export.native_pack import pack
from merino_edge.export.quantise import dequantise, quantise
from merino_edge.formats.native_file import Q4, Q8, read_tensors
from merino_edge.runtime.native_map import native_tensors

SMALL = tiny_architecture(vocab_size=24, max_seq_len=8)
GOLDEN = os.path.join(os.path.dirname(__file__), "..", "golden")
BITS = {"int8": 8, "int4": 4, "int4-all": 4}


def packed(tmp_path, architecture, precision, seed=0):
    path = str(tmp_path / "model.merino")
    tensors = random_tensors(architecture, seed)
    pack(path, architecture, tensors, precision)
    return path, tensors


@pytest.mark.parametrize("name", NATIVE_FILES)
def test_todays_packer_writes_the_golden_bytes(tmp_path, name):
    path, _ = packed(tmp_path, *NATIVE_FILES[name])
    with open(path, "rb") as new, open(os.path.join(GOLDEN, name), "rb") as old:
        assert new.read() == old.read()


@pytest.mark.parametrize("precision", list(BITS))
@pytest.mark.parametrize(
    "architecture", [tiny_architecture(), llama_architecture(), *MIXTURES.values()]
)
def test_numpy_reads_back_exactly_what_the_integers_stand_for(tmp_path, architecture, precision):
    path, tensors = packed(tmp_path, architecture, precision)
    for name, found in native_tensors(path, architecture).items():
        expected = tensors[name]
        if expected.ndim == 2 and name != "pos_embed.weight":
            of_words = precision == "int4" and name in ("embed.weight", "head.weight")
            bits = 8 if of_words else BITS[precision]
            expected = dequantise(quantise(expected, bits, name == "embed.weight"))
        np.testing.assert_array_equal(found, expected, err_msg=name)


def test_fp32_comes_back_bit_for_bit(tmp_path):
    path, tensors = packed(tmp_path, llama_architecture(), "fp32")
    for name, found in native_tensors(path, llama_architecture()).items():
        np.testing.assert_array_equal(found, tensors[name], err_msg=name)


@pytest.mark.parametrize(("precision", "kind"), [("int8", Q8), ("int4", Q4)])
def test_one_value_after_the_other_lies_where_the_format_says(tmp_path, precision, kind):
    """The docstring of the format, spelled out a value at a time."""
    path, tensors = packed(tmp_path, SMALL, precision)
    name = "blocks.1.ffn.down.weight"  # [24, 40]: both paddings are at work
    place = read_tensors(path, SMALL)[name]
    quantised = quantise(tensors[name], BITS[precision])
    with open(path, "rb") as stream:
        data = stream.read()

    assert place.kind == kind
    for row in range(24):
        for column in range(40):
            panel, r = divmod(row, 16)
            block, inside = divmod(column, 32)
            group, c = divmod(inside, 4)
            start = place.offset + (panel * 2 + block) * (512 if kind == Q8 else 256)
            if kind == Q8:
                q = np.int8(np.uint8(data[start + group * 64 + r * 4 + c]).view(np.int8))
            else:
                byte = data[start + (group % 4) * 64 + r * 4 + c]
                q = byte >> 4 if group >= 4 else byte & 15
            assert q == quantised.quants[row, block, inside]
            at = place.scales_offset + ((panel * 2 + block) * 16 + r) * 2
            assert half_at(data, at) == quantised.scales[row, block]
            if kind == Q4:
                at += place.minimums_offset - place.scales_offset
                assert half_at(data, at) == quantised.minimums[row, block]


def half_at(data, at):
    return np.frombuffer(data[at : at + 2], "<f2")[0]


def test_tensors_of_another_architecture_are_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(FormatError, match="shape"):
        pack(str(tmp_path / "m"), SMALL, random_tensors(tiny_architecture(), 0), "int8")

    assert os.listdir(tmp_path) == []


def test_a_failure_in_the_middle_leaves_the_old_file(tmp_path):
    path, tensors = packed(tmp_path, SMALL, "int8")
    with open(path, "rb") as stream:
        before = stream.read()
    tensors["blocks.1.ffn.down.weight"][0, 0] = np.nan

    with pytest.raises(ValueError, match="a weight is"):
        pack(path, SMALL, tensors, "int8")

    assert os.listdir(tmp_path) == ["model.merino"]
    with open(path, "rb") as stream:
        assert stream.read() == before
