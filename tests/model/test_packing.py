"""Texts packed in one row get the logits that each would get alone."""

import numpy as np
import pytest
from doubles import (
    llama_architecture,
    neox_architecture,
    post_norm_architecture,
    random_tensors,
    tiny_architecture,
)

from merino_edge.errors import SessionError

torch = pytest.importorskip("torch")
from merino_edge.model import packing  # noqa: E402
from merino_edge.model.packing import Packing, Prefix, Tree  # noqa: E402
from merino_edge.model.transformer import load_model  # noqa: E402

pytestmark = pytest.mark.torch
FAMILIES = [
    tiny_architecture(),
    llama_architecture(),
    neox_architecture(),
    post_norm_architecture(),
]


def chain(ids):
    n = len(ids)
    return Tree(np.array(ids), np.arange(n), np.tri(n, dtype=bool))


def fork(stem, one, other):
    """Two texts that begin with the same tokens."""
    n, m, k = len(stem), len(one), len(other)
    sees = np.tri(n + m + k, dtype=bool)
    sees[n + m :, n : n + m] = False
    depths = np.r_[np.arange(n + m), np.arange(n, n + k)]
    return Tree(np.array(stem + one + other), depths, sees)


def alone(model, ids):
    return model(torch.tensor([ids]))[0]


@pytest.mark.parametrize("a", FAMILIES)
@pytest.mark.parametrize("fused_from", [0, 1000])
@torch.no_grad()
def test_every_branch_gets_what_it_would_get_alone(a, fused_from, monkeypatch):
    monkeypatch.setattr(packing, "FUSED_FROM", fused_from)
    model = load_model(a, random_tensors(a, 0))
    stem, one, other, third = [3, 1, 4], [1, 5, 9, 2], [6, 5], [3, 5, 8, 9, 7, 9, 3]
    rows = model.logits(model.packed(Packing([fork(stem, one, other), chain(third)])))

    expected = torch.cat(
        [alone(model, stem + one), alone(model, stem + other)[3:], alone(model, third)]
    )
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("a", FAMILIES)
@torch.no_grad()
def test_a_kept_prefix_is_the_same_as_reading_it_again(a):
    model = load_model(a, random_tensors(a, 1))
    before, one, other = [7, 7, 2, 50], [1, 2], [3, 4, 5, 6]
    kept = Prefix(len(before))
    model.packed(Packing([chain(before)], keep=kept))
    rows = model.logits(model.packed(Packing([chain(one), chain(other)], kept)))

    expected = torch.cat([alone(model, before + one)[4:], alone(model, before + other)[4:]])
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_position_that_the_model_lacks_is_refused():
    a = tiny_architecture()
    model = load_model(a, random_tensors(a, 0))
    with pytest.raises(SessionError, match="49 positions are asked for, 48 are there"):
        model.packed(Packing([chain([1] * 49)]))


@torch.no_grad()
def test_the_row_may_be_longer_than_any_text():
    a = tiny_architecture(max_seq_len=4)
    model = load_model(a, random_tensors(a, 0))
    rows = model.packed(Packing([chain([1, 2, 3, 4])] * 3))
    assert rows.shape[0] == 12
    torch.testing.assert_close(rows[:4], rows[8:], atol=1e-6, rtol=1e-6)
