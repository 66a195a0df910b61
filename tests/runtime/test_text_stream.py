"""Pieces of text: whole characters, nothing of a stop string, nothing lost."""

import pytest
from doubles import write_tokenizer

pytest.importorskip("hypothesis")
from hypothesis import example, given, settings
from hypothesis import strategies as st

from merino_edge.runtime.text_stream import (
    KEPT_TOKENS,
    MAX_WINDOW,
    Detokenizer,
    StopFilter,
    TextStream,
)
from merino_edge.runtime.tokenizer import Tokenizer

# Where UTF-8 decoders can be led astray: lead bytes, continuations, truncations, impossible bytes.
AWKWARD = [0x00, 0x41, 0x80, 0x8F, 0x90, 0xA0, 0xBD, 0xBF, 0xC3, 0xE2, 0xEF, 0xF0, 0xF4, 0xFF]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_tokenizer(path, 300)
    return Tokenizer.from_file(str(path))


def decode_bytes(ids):
    """Token i is the byte i; 256 is a special token without text."""
    return bytes(i for i in ids if i < 256).decode("utf-8", "replace")


def pieces(stream, ids):
    return [stream.push(i) for i in ids] + [stream.finish()]


@given(text=st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_pieces_join_to_the_whole_text_and_none_is_broken(tokenizer, text):
    ids = tokenizer.encode(text)
    found = pieces(Detokenizer(tokenizer.decode), ids)
    assert "".join(found) == tokenizer.decode(ids)
    assert sum(piece.count("\ufffd") for piece in found) == text.count("\ufffd")


@given(ids=st.lists(st.sampled_from(AWKWARD) | st.integers(0, 255), max_size=150))
@settings(max_examples=300, deadline=None)
def test_pieces_of_any_bytes_join_to_the_whole(ids):
    assert "".join(pieces(Detokenizer(decode_bytes), ids)) == decode_bytes(ids)


def test_a_character_of_four_tokens_comes_in_one_piece():
    ids = list("a🐑b".encode())
    assert pieces(Detokenizer(decode_bytes), ids) == ["a", "", "", "", "🐑", "b", ""]


def test_special_tokens_between_the_bytes_of_a_character_do_no_harm():
    first, *others = "🐑".encode()
    assert "".join(pieces(Detokenizer(decode_bytes), [first, 256, *others])) == "🐑"


def test_an_unfinished_character_comes_out_at_the_end():
    assert pieces(Detokenizer(decode_bytes), [0x41, 0xF0, 0x9F]) == ["A", "", "", "\ufffd"]


@pytest.mark.parametrize("byte", [0x41, 0xFF, 0x80, 0xF0])
def test_the_cost_of_a_token_does_not_grow_with_the_text(byte):
    decoded = []

    def decode(ids):
        decoded.append(len(ids))
        return decode_bytes(ids)

    detokenizer = Detokenizer(decode)
    for _ in range(500):
        detokenizer.push(byte)
    assert max(decoded) == MAX_WINDOW + 1
    assert sum(decoded) < 500 * (MAX_WINDOW + KEPT_TOKENS)


def cut_by_hand(text, stops):
    """Character by character: at the first that completes a stop, cut the longest one there."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(len(stop) for stop in ending)], True
    return text, False


LETTERS = st.text(alphabet="ab", max_size=6)


@given(
    parts=st.lists(LETTERS, max_size=8),
    stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
@example(parts=["aa", "b"], stops=["aab"])  # the longest tail must wait, not the shortest
@settings(max_examples=300, deadline=None)
def test_stops_cut_where_a_slow_reader_would_however_the_text_arrives(parts, stops):
    found = StopFilter(stops)
    given = "".join([found.push(part) for part in parts] + [found.finish()])
    assert (given, found.stopped) == cut_by_hand("".join(parts), stops)


def test_the_beginning_of_a_stop_waits_and_is_given_when_it_was_none():
    found = StopFilter(["END"])
    assert [found.push(part) for part in ("a", "E", "N", "x")] == ["a", "", "", "ENx"]
    assert not found.stopped


def test_nothing_comes_after_a_stop():
    stream = TextStream(decode_bytes, ["\n\n"])
    given = "".join(pieces(stream, list(b"one\n\ntwo")))
    assert given == "one"
    assert stream.stopped
