"""The load script, for two seconds: what it counts is what happened."""

import sys

import pytest
from doubles import native_bundle
from repository import ROOT

from merino_edge.formats import jsonio

FOLDER = ROOT / "benchmarks/serving"


@pytest.fixture(scope="module")
def load():
    sys.path.append(str(FOLDER))
    import load as script

    yield script
    sys.path.remove(str(FOLDER))


def test_two_seconds_of_four_clients_are_counted(load, native_library, tmp_path, monkeypatch):
    bundle = native_bundle(tmp_path / "bundle")
    output = tmp_path / "load.json"
    words = ["load.py", bundle, "--clients", "4", "--seconds", "2", "-o", str(output)]
    monkeypatch.setattr(sys, "argv", words)
    load.main()
    report = jsonio.read_record(str(output), load.SCHEMA, load.LoadReport)
    assert report.errors == {}
    assert report.n_complete > 4
    assert report.conditions.clients == 4
    assert report.ttft_ms["p50"] <= report.ttft_ms["p99"] <= report.ttft_ms["max"]
    assert report.memory.end_bytes > 1e6


def test_a_slope_is_that_of_the_line_and_knows_its_error(load):
    rising = [(60.0 * minute, 1000 + 50 * minute) for minute in range(10)]
    assert load.slope(rising) == (pytest.approx(50.0), pytest.approx(0.0, abs=1e-6))
    flat = [(float(second), 1000 + second % 2) for second in range(100)]
    found, error = load.slope(flat)
    assert abs(found) < 3 * error


def test_the_committed_report_can_be_read(load):
    report = jsonio.read_record(
        str(ROOT / "benchmarks/results/serving/load.json"), load.SCHEMA, load.LoadReport
    )
    assert "clients" in load.markdown(report)
