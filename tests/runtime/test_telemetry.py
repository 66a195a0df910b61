"""Energy is the area under a span's own samples; what was not seen is not stated."""

import threading
import time

import numpy as np
import pytest
from board_files import NANO_HEAT, NANO_INPUT, NANO_RAILS
from doubles import write_tree

from merino_edge.runtime.rails import sysfs_source
from merino_edge.runtime.telemetry import Sample, Sampler, Telemetry, Trace


def trace(power, times):
    """Samples of a curve."""
    return Trace([Sample(float(t), power(t)) for t in times])


def test_a_ramp_has_the_area_of_a_trapezoid():
    found = trace(lambda t: 2.0 + 3.0 * t, np.arange(0.0, 4.01, 0.05))
    assert found.energy_j((0.0, 4.0)) == pytest.approx(2.0 * 4 + 3.0 * 16 / 2)
    assert found.energy_j((1.0, 3.0)) == pytest.approx(2.0 * 2 + 3.0 * (9 - 1) / 2)


def test_a_wave_at_20_hz_is_integrated_to_a_tenth_of_a_percent():
    found = trace(lambda t: 5.0 + 2.0 * np.sin(2 * np.pi * t), np.arange(0.0, 10.0, 0.05))
    exact = 5.0 * 7.25 - 2.0 / (2 * np.pi) * (np.cos(2 * np.pi * 8.25) - np.cos(2 * np.pi * 1.0))
    assert found.energy_j((1.0, 8.25)) == pytest.approx(exact, rel=1e-3)


def test_what_ran_beside_a_span_does_not_leak_into_it():
    """Prompts at 9 W and tokens at 4 W take turns, each shorter than the time between samples."""
    prompt_s, tokens_s = 0.013, 0.031
    period_s = prompt_s + tokens_s
    found = trace(lambda t: 9.0 if t % period_s < prompt_s else 4.0, np.arange(0.00137, 60.0, 0.05))
    begins = np.arange(0.0, 60.0, period_s)
    prompts = found.mean_power([(b, b + prompt_s) for b in begins])
    tokens = found.mean_power([(b + prompt_s, b + period_s) for b in begins])
    assert (prompts.mean_w, tokens.mean_w) == (pytest.approx(9.0), pytest.approx(4.0))
    assert prompts.n_samples + tokens.n_samples == 1200


def test_too_few_samples_are_no_power():
    found = trace(lambda t: 4.0, [0.01, 0.06])
    assert found.energy_j((0.0, 0.07)) == pytest.approx(0.28)
    assert found.mean_power([(0.0, 0.07)]) is None
    assert found.energy_j((0.02, 0.05)) is None
    assert Trace().mean_power([(0.0, 1.0)]) is None


@pytest.mark.parametrize("lost", [(0.0, 1.0), (2.0, 3.0), (4.2, 5.0)], ids=["begin", "mid", "end"])
def test_a_span_with_a_gap_has_no_energy(lost):
    times = [t for t in np.arange(0.0, 5.0, 0.05) if not lost[0] <= t <= lost[1]]
    found = trace(lambda t: 4.0, times)
    assert found.energy_j((0.0, 5.0)) is None
    assert found.energy_j((3.1, 4.1)) == pytest.approx(4.0)
    assert found.mean_power([(0.0, 5.0), (3.1, 4.1)]).mean_w == pytest.approx(4.0)


def test_a_reading_that_failed_is_counted_and_no_sample():
    answers = iter([3.0, None, 5.0])
    sampler = Sampler(lambda: next(answers))
    for _ in range(3):
        sampler.look()
    assert [sample.watts for sample in sampler.trace.samples] == [3.0, 5.0]
    assert sampler.trace.n_missed == 1


@pytest.fixture
def nano(tmp_path):
    root = write_tree(tmp_path, {**NANO_RAILS, **NANO_HEAT})
    return Telemetry(sysfs_source(root), root)


def test_a_thread_reads_the_rail_until_it_is_stopped(nano):
    with nano.watch() as watch:
        start_s = time.perf_counter()
        time.sleep(0.4)
        watch.add("work", start_s, time.perf_counter())
    assert watch.mean_w("work") == pytest.approx(2.52)
    assert watch.mean_w("other") is None
    assert watch.throttled is False
    assert "power" not in {thread.name for thread in threading.enumerate()}
    assert nano.warnings == []


def test_idle_power_is_measured_with_nothing_running(nano):
    told = []
    assert nano.measure_idle(told.append, seconds=0.3) == nano.idle_w == pytest.approx(2.52)
    assert told == ["idle power, POM_5V_IN"]


def test_a_rail_that_vanishes_leaves_no_energy_and_a_warning(nano, tmp_path):
    with nano.watch() as watch:
        start_s = time.perf_counter()
        time.sleep(0.25)
        middle_s = time.perf_counter()
        (tmp_path / NANO_INPUT.lstrip("/")).unlink()
        time.sleep(0.6)
        watch.add("before", start_s, middle_s)
        watch.add("after", middle_s + 0.05, time.perf_counter())
        watch.add("over it", start_s, time.perf_counter())
    assert watch.mean_w("before") == pytest.approx(2.52)
    assert watch.mean_w("after") is watch.mean_w("over it") is None
    (warning,) = nano.warnings
    assert warning.startswith("POM_5V_IN gave no value in ")


def test_a_board_that_throttles_meanwhile_is_named(nano, tmp_path):
    with nano.watch() as watch:
        write_tree(tmp_path, {"/sys/class/thermal/cooling_device1/cur_state": "2\n"})
    assert watch.throttled is True
    assert watch.limited_by == ["cpu-balanced"]


def test_a_machine_without_rails_starts_no_thread_and_waits_for_nothing(tmp_path):
    bare = Telemetry.open(str(tmp_path))
    start_s = time.perf_counter()
    assert bare.measure_idle(seconds=60.0) is None
    assert time.perf_counter() - start_s < 5.0
    with bare.watch() as watch:
        assert "power" not in {thread.name for thread in threading.enumerate()}
        watch.add("work", 0.0, 1.0)
    assert watch.mean_w("work") is watch.throttled is None
    assert watch.least_s == 0.0
    assert bare.warnings == []
