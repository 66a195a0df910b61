"""Requests: their names, how they are cut, and windows that predict each token once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merino_edge.errors import SessionError
from merino_edge.pipeline.evaluation.requests import Request, shared, truncated, windows

ids = st.lists(st.integers(0, 50), min_size=1, max_size=60)


def test_inputs_end_before_the_last_token():
    assert Request((1, 2), (3, 4)).inputs == (1, 2, 3)
    assert Request((1, 2), (3,)).inputs == (1, 2)


def test_the_border_is_part_of_a_requests_name():
    assert Request((1, 2), (3,)).key != Request((1,), (2, 3)).key
    assert Request((1, 2), (3,)).key == Request((1, 2), (3,)).key


def test_a_long_context_is_cut_from_the_left_and_the_last_token_needs_no_room():
    request = Request((1, 2, 3, 4), (5, 6))
    assert truncated(request, 5) is request
    assert truncated(request, 3) == Request((3, 4), (5, 6))
    assert len(truncated(request, 3).inputs) == 3


def test_a_continuation_that_is_too_long_alone_is_refused():
    with pytest.raises(SessionError, match="of 4 tokens does not fit: the model reads 3") as caught:
        truncated(Request((1, 2), (3, 4, 5, 6)), 3)
    assert "--context" in caught.value.hint


@given(ids, st.integers(1, 20), st.data())
def test_windows_predict_every_token_once_with_all_the_context_that_fits(text, length, data):
    stride = data.draw(st.integers(1, length))
    found = list(windows(text, 99, length, stride))
    assert [token for window in found for token in window.continuation] == text
    done = 0
    for window in found:
        before = ([99] + text)[: done + 1]
        assert len(window.inputs) <= length
        assert list(window.context) == before[-len(window.context) :]
        done += len(window.continuation)
        least = 1 if window is found[0] else length - stride + 1
        assert len(window.context) >= least


@settings(deadline=None)  # the first import takes longer
@given(ids, st.integers(1, 20), st.data())
def test_windows_are_the_harness_own(text, length, data):
    utils = pytest.importorskip("lm_eval.utils")
    stride = data.draw(st.integers(1, length))
    pairs = utils.get_rolling_token_windows(text, 99, length, length - stride + 1)
    theirs = [utils.make_disjoint_window(pair) for pair in pairs]
    assert [(list(w.context), list(w.continuation)) for w in windows(text, 99, length, stride)] == [
        (list(context), list(continuation)) for context, continuation in theirs
    ]


@given(ids, ids)
def test_shared_counts_the_common_beginning(one, other):
    slow = 0
    while slow < min(len(one), len(other)) and one[slow] == other[slow]:
        slow += 1
    assert shared(tuple(one), tuple(other)) == slow
    assert shared(tuple(one), tuple(one + other)) == len(one)
