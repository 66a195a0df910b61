"""Costs of an architecture on a target, and the limits that bind them."""

import numpy as np
import pytest
from doubles import llama_architecture, tiny_architecture

from merino_edge.core import counting, targets
from merino_edge.core.budget import LIMITS, Budget, Violation
from merino_edge.core.cost import CostReport, WorkPoint, price
from merino_edge.core.space import PRESETS
from merino_edge.errors import SpecError, UsageError

NANO, HOST = targets.get("nano"), targets.get("host")
AT = WorkPoint(prompt_len=1024, context_len=48)
COST = CostReport(
    n_params=1000,
    weight_bytes=2000,
    kv_bytes_per_token=10,
    activation_bytes=30,
    prefill_flops=5000,
    decode_flops_per_token=70,
    peak_memory_bytes=2400,
    latency_ms=12.5,
    prefill_ms=80.0,
    energy_mj_per_token=125.0,
    latency_basis="roofline",
    latency_high_ms=12.5,
    prefill_high_ms=80.0,
)


@pytest.mark.parametrize("architecture", [tiny_architecture(), llama_architecture()])
def test_price_quotes_the_counts_in_the_targets_precision(architecture):
    cost = price(architecture, NANO, AT)
    assert cost.n_params == counting.n_params(architecture)
    assert cost.weight_bytes == 2 * cost.n_params
    assert cost.prefill_flops == counting.prefill_flops(architecture)
    assert cost.decode_flops_per_token == counting.decode_flops_per_token(architecture, 48)
    assert cost.kv_bytes_per_token == counting.kv_bytes_per_token(architecture, 2)
    cache = counting.kv_cache_spec(architecture, 48, "float16")
    activations = max(
        2 * counting.layer_activation_values(architecture, block, 48, 48)
        for block in architecture.blocks
    )
    assert cost.activation_bytes == activations
    assert cost.peak_memory_bytes == cost.weight_bytes + cache.total_bytes + activations


def test_latency_is_the_time_to_read_weights_and_cache_once():
    a = tiny_architecture()
    matrices = sum(b.depth * counting.block_matrix_params(a, i) for i, b in enumerate(a.blocks))
    joints = sum(d_in * d_out for d_in, d_out in a.joints().values())
    weights = matrices + joints + counting.head_macs(a)
    traffic = 2 * weights + 48 * counting.kv_bytes_per_token(a, 2)
    cost = price(a, NANO, AT)
    assert cost.latency_ms == pytest.approx(1000 * traffic / 16.5e9)
    assert cost.latency_basis == "roofline"


def test_an_unknown_bandwidth_gives_no_latency_rather_than_a_guess():
    cost = price(tiny_architecture(), HOST, AT)
    assert cost.latency_ms is None
    assert cost.latency_basis is None
    with pytest.raises(SpecError, match="cannot be predicted"):
        Budget(max_latency_ms=5.0).violations(cost)


def test_sharing_a_block_saves_memory_but_no_traffic_on_a_board_without_cache_for_it():
    shared = tiny_architecture()
    unshared = tiny_architecture(
        blocks=(shared.blocks[0]._replace(depth=1),) * 2 + shared.blocks[1:]
    )
    one, two = price(shared, NANO, AT), price(unshared, NANO, AT)
    assert one.weight_bytes < two.weight_bytes
    assert one.latency_ms == pytest.approx(two.latency_ms)


def test_a_missed_limit_has_a_size_a_unit_and_a_sentence():
    (violation,) = Budget(max_params=2000, max_latency_ms=10.0).violations(COST)
    assert violation == Violation("latency per token", 12.5, 10.0, "ms")
    assert violation.excess == pytest.approx(0.25)
    assert violation.sentence == ("latency per token: 12.500 ms is 25 % over the limit of 10 ms")
    far = Violation("parameters", 12_000_000, 1_000_000, "")
    assert far.sentence == "parameters: 12,000,000 is 12 times the limit of 1,000,000"


def test_a_limit_binds_only_above_it():
    assert Budget(1000, 5000, 70, 2400, 12.5, 80.0, 125.0).violations(COST) == ()
    missed = Budget(999, 4999, 69, 2399, 12.4, 79.0, 124.0).violations(COST)
    assert [v.quantity for v in missed] == [limit.quantity for limit in LIMITS]


def test_arrays_of_costs_are_judged_as_single_ones_are():
    budget = Budget(max_params=800, max_flops=4000)
    arrays = COST._replace(n_params=np.array([1000, 700]), prefill_flops=np.array([5000, 4000]))
    excess = budget.total_excess(arrays)
    assert excess == pytest.approx([0.25 + 0.25, 0.0])
    assert excess[0] == pytest.approx(sum(v.excess for v in budget.violations(COST)))


def test_parameters_alone_do_not_bound_depth():
    assert Budget().is_unlimited
    assert not Budget(max_params=10).is_unlimited
    assert not Budget(max_params=10).bounds_depth
    for limit in LIMITS[1:]:
        assert Budget(**{limit.field: 10}).bounds_depth


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_a_limit_must_be_a_positive_number(bad):
    with pytest.raises(SpecError, match="max_flops"):
        Budget(max_flops=bad)


def test_every_target_names_a_space_and_a_budget_that_can_be_used():
    assert list(targets.TARGETS) == ["host", "nano", "nano-cpu", "orin-nano", "rtx", "mock-nano"]
    for name, target in targets.TARGETS.items():
        assert target.name == name
        assert target.default_space in PRESETS
        assert target.default_budget.bounds_depth


def test_an_unknown_target_names_those_there_are():
    with pytest.raises(UsageError, match="nanoo") as caught:
        targets.get("nanoo")
    assert "orin-nano" in caught.value.hint
