"""Formulas equal what is really stored, and published counts of known models."""

import pytest
from doubles import (
    llama_architecture,
    neox_architecture,
    post_norm_architecture,
    tiny_architecture,
)

from merino_edge.core import counting
from merino_edge.formats.architecture import Architecture, BlockSpec


def pile_of(n_layers, d_model, n_head, d_ff, vocab, positions):
    """A GPT-2-like decoder."""
    blocks = (BlockSpec(d_model, n_head, n_head, d_ff, 1),) * n_layers
    return Architecture(blocks, vocab_size=vocab, max_seq_len=positions)


GPT2 = pile_of(12, 768, 12, 3072, 50257, 1024)
SMOLLM2 = Architecture(
    (BlockSpec(576, 9, 3, 1536, 1),) * 30,
    vocab_size=49152,
    max_seq_len=8192,
    norm="rmsnorm",
    position="rope",
    rope_base=1e5,
    activation="silu",
    gated_ffn=True,
    attention_bias=False,
    ffn_bias=False,
)


def test_parameters_of_known_models():
    assert counting.n_params(GPT2) == 124_439_808
    assert counting.n_params(SMOLLM2) == 134_515_008
    # Cerebras-GPT-111M: 10 layers of 768, positions to 2048.
    assert counting.n_params(pile_of(10, 768, 12, 3072, 50257, 2048)) == 111_050_496


def test_a_missing_final_norm_is_not_counted():
    with_norm, without = (post_norm_architecture(final_norm=f) for f in (True, False))
    assert counting.n_params(with_norm) - counting.n_params(without) == 2 * 16


def test_where_norms_stand_and_what_runs_side_by_side_costs_nothing():
    plain = neox_architecture(parallel_residual=False, rope_fraction=1.0)
    assert counting.n_params(plain) == counting.n_params(neox_architecture())
    assert counting.prefill_flops(plain) == counting.prefill_flops(neox_architecture())


def test_flops_of_gpt2_under_both_conventions():
    # 2 per MAC, prefill of 1024, full attention: 212.6 G without the head, 291.6 G with it.
    assert counting.prefill_flops(GPT2) / 1e9 == pytest.approx(212.6, abs=0.05)
    assert counting.prefill_flops(GPT2, 1024, n_logits=1024) / 1e9 == pytest.approx(291.6, abs=0.1)


def test_depth_costs_flops_and_cache_but_no_parameters_except_norms():
    once, four = (tiny_architecture(blocks=(BlockSpec(64, 4, 4, 128, d),)) for d in (1, 4))
    norms = 3 * 2 * 2 * 64
    assert counting.n_params(four) - counting.n_params(once) == norms
    assert counting.n_params_executed(once) == counting.n_params(once)
    assert counting.kv_bytes_per_token(four, 4) == 4 * counting.kv_bytes_per_token(once, 4)
    assert counting.linear_macs_per_token(four) == 4 * counting.linear_macs_per_token(once)


DECODERS = [
    tiny_architecture(),
    llama_architecture(),
    neox_architecture(),
    post_norm_architecture(),
    GPT2,
    SMOLLM2,
]


@pytest.mark.parametrize("a", DECODERS)
def test_decode_is_one_row_of_prefill(a):
    step = counting.decode_flops_per_token(a, 10)
    assert step == counting.forward_flops(a, 1, 10, 1)
    # n tokens one by one cost what one call costs, but for attending to fewer rows.
    one_by_one = sum(counting.forward_flops(a, 1, i + 1, 0) for i in range(10))
    assert one_by_one < counting.forward_flops(a, 10, 10, 0)


def test_grouped_heads_shrink_the_cache():
    spec = counting.kv_cache_spec(SMOLLM2, 512)
    assert spec.bytes_per_token == counting.kv_bytes_per_token(SMOLLM2, 4) == 2 * 4 * 30 * 3 * 64
