"""The table of pieces: literal bytes, the tokenizer's own text, refused when damaged."""

import json
import struct

import pytest
from doubles import END_OF_TEXT, write_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from merino_edge.errors import FormatError, SchemaVersionError
from merino_edge.formats.pieces_file import Pieces, pieces_of_tokenizer, read_pieces, write_pieces
from merino_edge.formats.tokenizer_file import portable_json

GOLDEN = (
    b"PIECES\0\1"
    b"\4\0\0\0" b"\1\0\0\0" b"\5\0\0\0" b"\0\0\0\0"
    b"\3\0\0\0"
    b"\0\0\0\0" b"\2\0\0\0" b"\2\0\0\0" b"\5\0\0\0" b"\5\0\0\0"
    b"ab\xe7\xbe\x8a"
)  # fmt: skip
TABLE = Pieces([b"ab", b"", "羊".encode(), b""], [3])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A trained one, with a token added that is not special, and ids that nobody has."""
    path = tmp_path_factory.mktemp("pieces") / "tokenizer.json"
    write_tokenizer(path, 300)
    made = Tokenizer.from_str(path.read_text("utf-8"))
    made.add_tokens([AddedToken("two words", special=False), AddedToken("éé", special=False)])
    return Tokenizer.from_str(portable_json(made.to_str()))


def pieces(tokenizer):
    return pieces_of_tokenizer(portable_json(tokenizer.to_str()))


def damaged(tmp_path, data):
    path = tmp_path / "pieces.bin"
    path.write_bytes(data)
    return str(path)


def test_the_file_is_the_documented_bytes_and_is_read_back(tmp_path):
    path = tmp_path / "pieces.bin"
    write_pieces(str(path), *TABLE)
    assert path.read_bytes() == GOLDEN
    assert read_pieces(str(path)) == TABLE


@given(data=st.data())
def test_joined_pieces_are_the_text_of_the_tokenizer(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() - 1), max_size=40))
    joined = b"".join(pieces(tokenizer)[number] for number in ids)
    assert joined.decode("utf-8", "replace") == tokenizer.decode(ids)


def test_special_tokens_and_holes_write_nothing(tokenizer):
    document = json.loads(tokenizer.to_str())
    document["model"]["vocab"]["z" * 9] = 400  # behind a hole
    table = pieces_of_tokenizer(json.dumps(document))
    assert table[tokenizer.token_to_id(END_OF_TEXT)] == b""
    assert (len(table), table[399], table[400]) == (401, b"", b"z" * 9)


def test_without_a_byte_level_decoder_tokens_stand_apart(tokenizer):
    document = json.loads(tokenizer.to_str())
    document["decoder"] = None
    plain = Tokenizer.from_str(json.dumps(document))
    ids = plain.encode("the sheep").ids
    assert b"".join(pieces(plain)[i] for i in ids).decode("utf-8") == " " + plain.decode(ids)


@pytest.mark.parametrize("keep", [0, 7, 23, 24, 40, len(GOLDEN) - 1])
def test_a_table_cut_anywhere_is_refused(tmp_path, keep):
    with pytest.raises(FormatError, match=r"pieces\.bin"):
        read_pieces(damaged(tmp_path, GOLDEN[:keep]))


@pytest.mark.parametrize("starts", [(1, 2, 2, 5, 5), (0, 2, 1, 5, 5), (0, 2, 2, 5, 4)])
def test_pieces_that_overlap_are_refused(tmp_path, starts):
    data = GOLDEN[:28] + struct.pack("<5I", *starts) + GOLDEN[48:]
    with pytest.raises(FormatError, match="does not begin where"):
        read_pieces(damaged(tmp_path, data))


def test_another_version_says_so(tmp_path):
    with pytest.raises(SchemaVersionError, match="version 2"):
        read_pieces(damaged(tmp_path, GOLDEN[:7] + b"\2" + GOLDEN[8:]))
