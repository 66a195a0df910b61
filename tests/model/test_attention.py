"""Attention by whole products is the fused attention, computed in another way."""

import pytest

torch = pytest.importorskip("torch")
from merino_edge.model.attention import (  # noqa: E402
    LONGEST_BY_PRODUCTS,
    attend_by_products,
    suits_products,
)

pytestmark = pytest.mark.torch


def heads(n_positions, dtype):
    """A query, key and value [2, 3, T, 8] that gradients reach."""
    generator = torch.Generator().manual_seed(n_positions)
    shape = (2, 3, n_positions, 8)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


def fused(query, key, value):
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)


@pytest.mark.parametrize(("dtype", "gap"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-5)])
@pytest.mark.parametrize("n_positions", [1, 7, 64])
def test_both_ways_give_the_same_values_and_gradients(n_positions, dtype, gap):
    found = []
    for attend in (fused, attend_by_products):
        inputs = heads(n_positions, dtype)
        mixed = attend(*inputs)
        mixed.square().sum().backward()
        found.append([mixed.detach(), *(x.grad for x in inputs)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(
            ours, theirs, atol=gap * max(1.0, theirs.abs().max().item()), rtol=gap
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_later_token_changes_nothing_to_the_bit(dtype):
    query, key, value = (x.detach() for x in heads(9, dtype))
    before = attend_by_products(query, key, value)
    key[:, :, 6:] += 1
    value[:, :, 6:] += 1
    assert torch.equal(attend_by_products(query, key, value)[:, :, :6], before[:, :, :6])


def test_products_are_for_short_windows_in_bfloat16():
    def window(n_positions, dtype):
        return torch.zeros(1, 1, n_positions, 8, dtype=dtype)

    assert suits_products(window(LONGEST_BY_PRODUCTS, torch.bfloat16))
    assert not suits_products(window(LONGEST_BY_PRODUCTS + 1, torch.bfloat16))
    assert not suits_products(window(8, torch.float32))
    assert not suits_products(window(8, torch.bfloat16).to("meta"))
