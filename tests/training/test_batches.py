"""Batches are functions of seed and step, and an epoch sees every window once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino_edge.errors import SpecError
from merino_edge.training.data import Batches, TokenStream, permuted

KEYS = st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4)


def counting_batches(n_tokens, seed=0, batch_size=4, seq_len=8):
    """Batches over 0, 1, 2, ...: an id says where it stands."""
    return Batches(TokenStream([np.arange(n_tokens)]), batch_size, seq_len, seed)


@given(n=st.integers(1, 300), keys=KEYS)
def test_a_keyed_order_visits_every_place_once(n, keys):
    assert sorted(permuted(i, n, keys) for i in range(n)) == list(range(n))


def test_the_order_looks_shuffled():
    order = [permuted(i, 1000, [1, 2, 3, 4]) for i in range(1000)]
    steps = np.abs(np.diff(order))
    assert 250 < steps.mean() < 420  # a random order: a third of 1000
    assert abs(np.corrcoef(order, range(1000))[0, 1]) < 0.1


def test_windows_are_text_as_it_stands_and_targets_are_one_further():
    batch = counting_batches(500).at(3)
    assert batch.shape == (4, 9)
    assert (np.diff(batch, axis=1) == 1).all()


@given(n_tokens=st.integers(9, 200), epoch=st.integers(0, 3), seed=st.integers(0, 5))
def test_an_epoch_predicts_no_token_twice(n_tokens, epoch, seed):
    batches = counting_batches(n_tokens, seed, batch_size=1)
    n = batches.windows_per_epoch
    steps = range(epoch * n, (epoch + 1) * n)
    targets = np.concatenate([batches.at(step)[0, 1:] for step in steps])
    assert len(set(targets)) == len(targets) == n * 8
    assert len(targets) > n_tokens - 1 - 2 * 8


def test_a_step_gives_the_same_batch_whatever_came_before():
    first, second = counting_batches(500), counting_batches(500)
    for step in range(40):
        first.at(step)
    assert (first.at(17) == second.at(17)).all()


def test_other_seeds_and_other_epochs_give_another_order():
    batches = counting_batches(4 * 8 * 10 + 9)
    n_steps = batches.windows_per_epoch // 4
    assert not (batches.at(0) == batches.at(n_steps)).all()
    assert not (batches.at(0) == counting_batches(4 * 8 * 10 + 9, seed=1).at(0)).all()


def test_a_text_shorter_than_a_window_is_refused_with_both_numbers():
    with pytest.raises(SpecError, match="has 8 tokens, seq_len 8 needs 9"):
        counting_batches(8)


@given(cuts=st.lists(st.integers(1, 7), min_size=1, max_size=6), data=st.data())
def test_several_files_read_as_one(cuts, data):
    whole = np.arange(sum(cuts))
    stream = TokenStream(np.split(whole, np.cumsum(cuts)[:-1]))
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    assert stream[start:stop].tolist() == whole[start:stop].tolist()
