"""The fit finds a law that made the times, says how wrong it is, and adds up for whole decoders."""

from zlib import crc32

import numpy as np
import pytest
from latency_tables import LABELS, PRICES_MS, SPACE, law_ms, table_by

from merino_edge.core import probe_design, targets
from merino_edge.core.cost import Pricing, WorkPoint
from merino_edge.core.latency_check import validate
from merino_edge.core.latency_fit import fit_table
from merino_edge.core.latency_work import WORK, stored_in, total_read_mb, total_work
from merino_edge.errors import SpecError
from merino_edge.formats.latency_table import DECODE, PREFILL, Workload

INT4 = stored_in("int4")


def test_a_law_of_prices_is_found_to_the_last_digits():
    table = table_by(lambda a, workload: law_ms(a, workload, INT4))
    found = validate(table)
    for phase in (DECODE, PREFILL):
        assert found[phase].mape < 1e-3
        assert found[phase].kendall_tau > 0.99
        assert found[phase].within_5 == 1.0
        assert found[phase].others["stored parameters"] > 0.1


def test_a_block_that_stays_and_a_working_set_that_spills_are_seen():
    table = table_by(
        lambda a, workload: law_ms(a, workload, INT4, cached=60_000, capacity_mb=0.5, spill=0.2)
    )
    model = fit_table(table)
    assert model.spills
    assert model.decode.cached_weights > 0
    assert 0.3 < model.decode.capacity_mb < 0.8
    assert model.decode.spill_ms_per_mb == pytest.approx(0.2, rel=0.3)
    assert validate(table)[DECODE].mape < 0.03


def test_where_nothing_stays_no_cache_is_claimed():
    flat = np.array(PRICES_MS)
    flat[WORK.index("weights again")] = flat[WORK.index("weights first")]
    table = table_by(lambda a, w: law_ms(a, w, INT4, prices=flat), noise=0.02)
    assert fit_table(table).decode.cached_weights == 0


def test_the_stated_interval_holds_about_as_many_as_it_promises():
    def off_by_up_to_five_per_cent(a, w):
        chance = crc32((a.arch_id + w.label).encode())  # the same in every process
        return law_ms(a, w, INT4) * np.exp(0.05 * np.sin(chance))

    table = table_by(off_by_up_to_five_per_cent, n_fit=40, n_held_out=40)
    found = validate(table)[DECODE]
    assert 0.8 <= found.coverage <= 0.99
    assert fit_table(table).decode.spread < 1.12


def test_prices_of_parts_add_up_to_the_call_whoever_adds():
    table = table_by(lambda a, w: law_ms(a, w, INT4, 60_000, 0.5, 0.2), noise=0.05)
    model, target = fit_table(table), targets.get("host")
    pricing = Pricing(target, WorkPoint(prompt_len=100, context_len=120), model)
    for a in list(table.architectures.values())[:12]:
        cost = pricing.price(a)
        assert cost.latency_basis == "table"
        assert cost.latency_ms == pytest.approx(model.ms(a, Workload(DECODE, 120)))
        assert cost.prefill_ms == pytest.approx(model.ms(a, Workload(PREFILL, 100)))
        assert cost.latency_high_ms == pytest.approx(cost.latency_ms * model.decode_spread)


def test_a_correction_scales_everything_and_narrows_the_interval():
    model = fit_table(table_by(lambda a, w: law_ms(a, w, INT4), noise=0.05))
    a = SPACE.decode(SPACE.smallest())
    corrected = model.corrected(1.1, 1.01)
    workload = Workload(DECODE, 64)
    assert corrected.ms(a, workload) == pytest.approx(1.1 * model.ms(a, workload))
    assert (corrected.decode_spread, corrected.prefill_spread) == (1.01, 1.01)


def test_what_lies_far_outside_is_told():
    model = fit_table(table_by(lambda a, w: law_ms(a, w, INT4)))
    least, most = model.decode.reach
    assert model.beyond_reach(1.1 * most) is None
    assert model.beyond_reach(0.9 * least) is None
    assert f"{least:.3f} to {most:.3f} ms" in model.beyond_reach(2.0 * most)
    assert model.beyond_reach(0.5 * least)


def test_too_few_decoders_are_refused():
    table = table_by(lambda a, w: 1.0)
    few = set(sorted(table.architectures)[:8])
    rows = [row for row in table.rows if row.architecture in few]
    with pytest.raises(SpecError, match="a fit needs 16"):
        fit_table(table.replace(rows=rows))


def test_probes_are_different_small_enough_and_tell_the_kinds_of_work_apart():
    architectures, roles = probe_design.choose(SPACE, 30, 12, seed=1)
    assert len(architectures) == 42
    assert sorted(roles.values()).count("held_out") == 12
    for name, role in roles.items():
        assert (architectures[name] in SPACE) or role == "fit"
    fitted = [a for name, a in architectures.items() if roles[name] == "fit"]
    loads = [Workload.of_label(label) for label in LABELS]
    work = np.array([total_work(a, load, 60_000) for a in fitted for load in loads])
    used = work[:, work.max(axis=0) > 0]
    # heads have one size in a space, so attention and its rows are one thing there
    assert np.linalg.matrix_rank(used / used.mean(axis=0), tol=1e-3) == used.shape[1] - 1


def test_the_same_seed_gives_the_same_probes_and_another_gives_others():
    one, again, other = (set(probe_design.choose(SPACE, 20, 8, seed)[0]) for seed in (1, 1, 2))
    assert one == again
    assert one != other


@pytest.mark.parametrize(("n_fit", "n_held_out"), [(3, 8), (20, 5000)])
def test_numbers_that_cannot_be_are_refused(n_fit, n_held_out):
    with pytest.raises(SpecError):
        probe_design.choose(SPACE, n_fit, n_held_out, 0)


def test_a_working_set_counts_a_block_once_and_the_past_of_every_layer():
    a = SPACE.decode(SPACE.smallest())
    deeper = a.replace(blocks=tuple(b._replace(depth=2 * b.depth) for b in a.blocks))
    load = Workload(DECODE, 100)
    past_mb = sum(2 * 100 * b.depth * b.d_model for b in a.blocks) * INT4.value * 1e-6
    grown_mb = total_read_mb(deeper, load, INT4) - total_read_mb(a, load, INT4)
    assert grown_mb == pytest.approx(past_mb)
