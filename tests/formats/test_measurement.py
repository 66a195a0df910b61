"""Samples to a summary: known values, and intervals that hold what they promise."""

import math
import random
import statistics

import pytest

from merino_edge.errors import SpecError
from merino_edge.formats.measurement import summarize, t95


def test_summary_of_five_known_samples():
    found = summarize([4, 1, 3, 2, 10], "ms")
    assert (found.n, found.mean, found.min, found.p50, found.max) == (5, 4.0, 1.0, 3.0, 10.0)
    assert found.std == pytest.approx(math.sqrt(50 / 4))
    assert found.p95 == pytest.approx(8.8)  # 4 + 0.8 * (10 - 4): place 3.8 of 0..4
    assert found.ci95 == pytest.approx(2.776 * found.std / math.sqrt(5))
    assert found.unit == "ms"


def test_one_sample_has_no_spread():
    found = summarize([7.5], "ms")
    assert (found.mean, found.p50, found.p95) == (7.5, 7.5, 7.5)
    assert found.std is None
    assert found.ci95 is None


def test_no_samples_are_refused():
    with pytest.raises(SpecError, match="no samples"):
        summarize([], "ms")


def test_many_samples_agree_with_the_statistics_module():
    rng = random.Random(1)
    samples = [rng.gauss(10, 2) for _ in range(101)]
    found = summarize(samples, "ms")
    assert found.mean == pytest.approx(statistics.fmean(samples))
    assert found.std == pytest.approx(statistics.stdev(samples))
    cuts = statistics.quantiles(samples, n=100, method="inclusive")
    assert found.p50 == pytest.approx(cuts[49])
    assert found.p95 == pytest.approx(cuts[94])


def test_the_interval_holds_the_true_mean_19_times_of_20():
    rng = random.Random(2)
    hits = 0
    for _ in range(2000):
        found = summarize([rng.gauss(0, 1) for _ in range(5)], "ms")
        hits += abs(found.mean) <= found.ci95
    assert 0.935 < hits / 2000 < 0.965  # three standard errors of a share of 0.95 are 0.015


@pytest.mark.parametrize(("f", "value"), [(1, 12.706), (30, 2.042), (60, 2.000), (120, 1.980)])
def test_t_is_that_of_the_tables(f, value):
    assert t95(f) == pytest.approx(value, abs=1e-3)
