"""Milliseconds from parts: a lower bound that says what binds it, and nothing where facts lack."""

import pytest
from doubles import tiny_architecture

from merino_edge.core import counting, targets
from merino_edge.core.cost import Pricing, WorkPoint
from merino_edge.core.latency import Roofline, layer_part
from merino_edge.core.latency_work import call_parts
from merino_edge.formats.architecture import BlockSpec
from merino_edge.formats.latency_table import DECODE, Workload

NANO = targets.get("nano")
ONE = tiny_architecture(blocks=(BlockSpec(64, 4, 4, 128, 4),))
MATRICES = counting.block_matrix_params(ONE, 0)


def test_reading_binds_one_token_and_arithmetic_binds_a_long_prompt():
    roofline = Roofline(NANO)
    token = layer_part(ONE, 0, 1, 48, again=False)
    prompt = layer_part(ONE, 0, 1024, 1024, again=False)
    read_bytes = 2 * token.weights + 2 * token.cache_values
    assert roofline.part_ms(token) == pytest.approx(1e3 * read_bytes / 16.5e9)
    assert roofline.part_ms(prompt) == pytest.approx(1e3 * prompt.flops / 472e9)


def test_a_block_that_stays_in_the_cache_is_read_once():
    roomy = NANO._replace(block_cache_bytes=2 * MATRICES)
    tight = NANO._replace(block_cache_bytes=2 * MATRICES - 1)
    for target, stays in ((roomy, True), (tight, False)):
        first = layer_part(ONE, 0, 1, 48, again=False)
        again = layer_part(ONE, 0, 1, 48, again=True)
        saved_ms = Roofline(target).part_ms(first) - Roofline(target).part_ms(again)
        assert saved_ms * 16.5e6 == pytest.approx(2 * MATRICES if stays else 0)
        assert first.flops == again.flops


def test_the_parts_of_a_token_add_up_to_its_flops():
    a = tiny_architecture()
    parts = call_parts(a, Workload(DECODE, 48))
    assert sum(times for times, _ in parts) == a.n_layers + len(a.joints()) + 1
    flops = sum(times * part.flops for times, part in parts)
    assert flops == counting.decode_flops_per_token(a, 48)


def test_without_a_bandwidth_nothing_is_known_and_without_a_rate_no_prompt():
    host = Roofline(targets.get("host"))
    assert (host.knows_decode, host.knows_prefill) == (False, False)
    slow = Roofline(NANO._replace(peak_flops_per_s=None))
    assert (slow.knows_decode, slow.knows_prefill) == (True, False)


def test_another_latency_model_takes_the_rooflines_place():
    class Constant:
        basis, knows_decode, knows_prefill = "table", True, True
        decode_spread, prefill_spread, spills = 1.1, 1.2, False

        def part_ms(self, part):
            return 1.0

        def spill_ms(self, part):
            return 0.0

    cost = Pricing(NANO, WorkPoint(context_len=48), Constant()).price(tiny_architecture())
    a = tiny_architecture()
    n_parts = a.n_layers + len(a.joints()) + 1
    assert (cost.latency_ms, cost.prefill_ms, cost.latency_basis) == (n_parts, n_parts, "table")
    assert cost.energy_mj_per_token == pytest.approx(10.0 * n_parts)
    assert cost.latency_high_ms == pytest.approx(1.1 * n_parts)
    assert cost.prefill_high_ms == pytest.approx(1.2 * n_parts)


def test_a_smaller_vocabulary_pays_for_the_tokens_it_needs_more():
    a = tiny_architecture()
    one = Pricing.by_roofline(NANO, WorkPoint(context_len=48)).price(a)
    more = Pricing.by_roofline(NANO, WorkPoint(context_len=48, tokens_per_reference=1.25)).price(a)
    for name in ("decode_flops_per_token", "latency_ms", "energy_mj_per_token"):
        assert getattr(more, name) == pytest.approx(1.25 * getattr(one, name), rel=1e-4)
    assert more.prefill_flops == one.prefill_flops
