"""What a line may say, and that everything else is refused with a reason and never with a crash."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino_edge.runtime.serving.socket_requests import FIELDS, Ask, LineError, ask_of


def read(**fields):
    return ask_of(json.dumps(fields).encode())


def test_a_request_says_only_what_it_must():
    assert read(op="generate", id=1, prompt="The sheep") == Ask("generate", 1, "The sheep", {})
    assert read(op="generate", id="a", ids=[1, 2]) == Ask("generate", "a", [1, 2], {})
    assert read(op="ping") == Ask("ping")


def test_naming_a_way_to_draw_asks_for_a_draw():
    assert read(op="generate", id=1, prompt="x", top_k=3).options == {"top_k": 3, "do_sample": True}
    assert read(op="generate", id=1, prompt="x", seed=3).options == {"seed": 3}


def test_one_stop_needs_no_list_and_a_limit_is_in_milliseconds():
    ask = read(op="generate", id=1, prompt="x", stop="\n", limit_ms=1500, eos_token_ids=[])
    assert ask.options == {"stop": ("\n",), "eos_token_ids": ()}
    assert ask.limit_s == 1.5


@pytest.mark.parametrize(
    ("line", "code", "ask_id"),
    [
        (b"", "bad_line", None),
        (b"\xff", "bad_line", None),
        (b"[1]", "bad_line", None),
        (b'{"op":"ping","id":NaN}', "bad_line", None),
        (b'{"op":"ping","id":' + b"9" * 100_000 + b"}", "bad_line", None),
        (b"[" * 100_000, "bad_line", None),
        (b"{}", "unknown_op", None),
        (b'{"op":["ping"],"id":7}', "unknown_op", 7),
        (b'{"op":"ping","id":-1}', "bad_request", None),
        (b'{"op":"ping","id":true}', "bad_request", None),
        (b'{"op":"ping","id":""}', "bad_request", None),
        (b'{"op":"ping","id":"\\ud800"}', "bad_request", None),
        (b'{"op":"generate","prompt":"x"}', "bad_request", None),
        (b'{"op":"generate","id":7}', "bad_request", 7),
        (b'{"op":"generate","id":7,"prompt":"x","ids":[1]}', "bad_request", 7),
        (b'{"op":"generate","id":7,"prompt":"\\ud800"}', "bad_request", 7),
        (b'{"op":"generate","id":7,"ids":[1.5]}', "bad_request", 7),
        (b'{"op":"generate","id":7,"ids":[4294967296]}', "bad_request", 7),
        (b'{"op":"generate","id":7,"prompt":"x","temprature":1}', "bad_request", 7),
        (b'{"op":"generate","id":7,"prompt":"x","seed":true}', "bad_request", 7),
        (b'{"op":"generate","id":7,"prompt":"x","top_p":"1"}', "bad_request", 7),
        (b'{"op":"generate","id":7,"prompt":"x","limit_ms":0}', "bad_request", 7),
        (b'{"op":"generate","id":7,"prompt":"x","limit_ms":1e999}', "bad_request", 7),
        (b'{"op":"generate","id":7,"prompt":"x","stop":[""]}', "bad_request", 7),
        (b'{"op":"chat","id":7,"messages":[]}', "bad_request", 7),
        (b'{"op":"chat","id":7,"messages":[{"role":"user"}]}', "bad_request", 7),
    ],
)
def test_what_is_wrong_is_refused_with_its_code(line, code, ask_id):
    with pytest.raises(LineError) as caught:
        ask_of(line)
    assert (caught.value.code, caught.value.ask_id) == (code, ask_id)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{}", "op is missing."),
        (b'{"op":null}', "op is missing."),
        (b'{"op":"sing"}', "there is no op 'sing'."),
    ],
)
def test_an_op_that_is_missing_is_told_from_one_that_is_unknown(line, message):
    with pytest.raises(LineError, match="^" + message) as caught:
        ask_of(line)
    assert "generate" in caught.value.hint


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
NAMES = st.sampled_from(sorted({name for names in FIELDS.values() for name in names} | {"id"}))


@given(st.sampled_from(sorted(FIELDS)), st.dictionaries(NAMES, JSON, max_size=4))
def test_any_fields_are_understood_or_refused(op, fields):
    assert verdict(json.dumps({"op": op, **fields}).encode()) in (op, "bad_line", "bad_request")


def verdict(line):
    """The op that was understood, or the code of the refusal."""
    try:
        return ask_of(line).op
    except LineError as error:
        return error.code
