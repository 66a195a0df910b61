"""No run of 50 held-out tokens is left that stands in the training side."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merino_edge.training import overlap
from merino_edge.training.overlap import RUN_TOKENS, WINDOW_TOKENS, HeldOutWindows, window_hashes


def runs(ids, length=RUN_TOKENS):
    """Every run of so many tokens, the slow and obvious way."""
    return {tuple(ids[i : i + length]) for i in range(len(ids) - length + 1)}


def kept(held_out, training):
    windows = HeldOutWindows([held_out])
    for ids in training:
        windows.look_in(ids)
    return [held_out[start:stop].tolist() for start, stop in windows.kept_spans(0)]


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 30), where=st.integers(0, 350), begin=st.integers(0, 250))
def test_a_copied_run_of_50_is_dropped_wherever_it_begins(seed, where, begin):
    rng = np.random.default_rng(seed)
    held_out = rng.integers(0, 300, 300, dtype=np.uint16)
    training = rng.integers(0, 300, 400, dtype=np.uint16)
    training[where : where + RUN_TOKENS] = held_out[begin : begin + RUN_TOKENS][: 400 - where]
    common = runs(held_out.tolist()) & runs(training.tolist())
    left = kept(held_out, [training])
    assert bool(common) == (where + RUN_TOKENS <= 400)
    assert not set().union(*map(runs, left)) & runs(training.tolist())
    if common:
        assert 300 - sum(map(len, left)) >= WINDOW_TOKENS


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 30), n_ids=st.integers(1, 3))
def test_text_that_repeats_itself_keeps_the_promise_too(seed, n_ids):
    rng = np.random.default_rng(seed)
    held_out, training = (rng.integers(0, n_ids, n, dtype=np.uint16) for n in (200, 1500))
    held_out[:90] = np.resize(rng.integers(0, n_ids, 7), 90)
    training[100:400] = np.resize(held_out[:60], 300)
    left = kept(held_out, [training[:700], training[700:]])
    stands = runs(training[:700].tolist()) | runs(training[700:].tolist())
    assert not set().union(*map(runs, left)) & stands


def test_what_has_nothing_in_common_is_kept_whole():
    held_out, training = np.arange(500, dtype=np.uint16), np.arange(500, 9000, dtype=np.uint16)
    assert kept(held_out, [training]) == [held_out.tolist()]
    assert kept(held_out[:20], [training]) == [held_out[:20].tolist()]


def test_what_stands_in_training_as_a_whole_leaves_less_than_a_window():
    held_out = np.arange(1000, dtype=np.uint16)
    left = kept(held_out, [np.arange(900), np.arange(800, 2000)])
    assert sum(map(len, left)) < overlap.STRIDE


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_blocks_change_nothing(monkeypatch, dtype):
    rng = np.random.default_rng(3)
    held_out = rng.integers(0, 50, 4000).astype(dtype)
    training = np.concatenate([rng.integers(0, 50, 3000), held_out[500:900], held_out[3000:3060]])
    whole = kept(held_out, [training.astype(dtype)])
    monkeypatch.setattr(overlap, "_BLOCK", overlap.STRIDE * 3)
    assert kept(held_out, [training.astype(dtype)]) == whole
    assert len(whole) == 3


def test_equal_windows_have_equal_hashes_and_others_do_not():
    ids = np.random.default_rng(0).integers(0, 4, 20_000)
    ids[5000:5100] = ids[100:200]
    hashes = window_hashes(ids)
    assert len(hashes) == len(ids) - WINDOW_TOKENS + 1
    assert np.array_equal(hashes[5000 : 5100 - 31], hashes[100 : 200 - 31])
    assert len(np.unique(hashes)) == len(runs(ids.tolist(), WINDOW_TOKENS))
    assert len(window_hashes(ids[:31])) == 0
