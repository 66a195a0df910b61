"""The files of the native decoder's page keep what was promised."""

import importlib
import sys

import pytest
from repository import ROOT

from merino_edge.formats import jsonio

FOLDER = ROOT / "benchmarks" / "native"
RESULTS = ROOT / "benchmarks" / "results" / "native"


@pytest.fixture
def report_of():
    """Read a result, by its name and the module that words it."""
    sys.path.append(str(FOLDER))

    def read(name, module):
        kind = importlib.import_module(module)
        return jsonio.read_record(str(RESULTS / name), kind.SCHEMA, kind.Report)

    return read


def test_rounding_costs_what_was_promised(report_of):
    ratios = {
        found.how: found.ratio for found in report_of("accuracy.json", "accuracy_report").found
    }
    assert abs(ratios["native fp32"] - 1.0) < 1e-4
    assert abs(ratios["native int8"] - 1.0) < 5e-3
    assert abs(ratios["native int4"] - 1.0) < 3e-2


def test_memory_does_not_grow_and_the_first_token_comes_soon(report_of):
    for start in report_of("cold_start.json", "cold_start").starts:
        assert start.rss_after_all_bytes == start.rss_after_1000_bytes
        assert start.n_tokens >= 100_000
        assert start.first_token_ms[1] < 60.0
        assert start.peak_bytes < start.file_bytes + start.session_bytes + 25e6


def test_shares_of_a_profile_are_of_one_whole(report_of):
    for profile in report_of("step_profile.json", "step_profile").profiles:
        assert sum(share.share for share in profile.shares) == pytest.approx(1.0, abs=0.01)
        assert profile.looks > 500


def test_a_function_falls_into_the_first_part_that_names_it(report_of):
    import step_profile

    shares = step_profile.by_part(
        step_profile.Counter({"vnni_q4": 6, "vnni_q8": 3, "me_best": 1, "a_kernel_function": 2})
    )
    assert {each.part: round(12 * each.share) for each in shares} == {
        "4-bit products": 6,
        "8-bit products": 3,
        "choice": 1,
        "rest": 2,
    }
    assert [each.share for each in shares] == sorted((s.share for s in shares), reverse=True)
