"""A bench report on paper and on disk: the golden JSON, the table, and what is refused."""

import csv
import io
import json
import pathlib

import pytest

from merino_edge.errors import FormatError, SchemaVersionError, SpecError
from merino_edge.formats import bench_report, jsonio
from merino_edge.formats.bench_report import BenchCase, BenchReport, Roofline
from merino_edge.formats.measurement import Conditions, DeviceInfo, summarize

GOLDEN = pathlib.Path(__file__).parent / "bench_report.golden.json"


def report(**changes):
    """A report of two repetitions of tg4, with round numbers."""
    fields = {
        "merino_edge_version": "0.1.0",
        "bundle": "tiny",
        "bundle_id": "0123456789ab",
        "backend": "ort",
        "engine": "onnxruntime 1.10.0, 2 threads",
        "precision": "fp32",
        "model_size": 4000000,
        "model_n_params": 1000000,
        "n_prompt": 0,
        "n_gen": 4,
        "n_depth": 128,
        "repetitions": 2,
        "warmup": 1,
        "seed": 0,
        "test_time": "2026-01-02T03:04:05Z",
        "avg_ns": 3000000,
        "stddev_ns": 1414214,
        "avg_ts": 1500.0,
        "stddev_ts": 707.1067811865476,
        "ci95_ts": 6353.0,
        "samples_ns": [2000000, 4000000],
        "samples_ts": [2000.0, 1000.0],
        "ttft_ms": None,
        "itl_ms": summarize([0.5, 0.5, 1.0, 1.0], "ms"),
        "kv_cache_bytes": 65536,
        "peak_rss_bytes": 50000000,
        "roofline": Roofline(
            16e9, 4000000, "every stored matrix once", "a matrix-vector product", 9000000
        ),
        "roofline_fraction": 0.3333,
        "power_w": 4.5,
        "energy_mj_per_token": 3.375,
        "provenance": "measured",
        "device": DeviceInfo(
            model="NVIDIA Jetson Nano Developer Kit",
            machine="aarch64",
            cpu="Cortex-A57",
            n_cores=4,
            memory_bytes=4148248576,
            last_cache_bytes=2097152,
            os="Ubuntu 18.04.6 LTS",
            python="3.6.9",
            packages={"numpy": "1.19.4"},
            l4t="32.7.1",
            jetpack="4.6.1",
            tensorrt="8.2.1",
            cuda="10.2.300",
        ),
        "conditions": Conditions(load_before=0.1, power_mode="MAXN", temp_c_start=31.5),
        "idle_power_w": 1.25,
        "energy_above_idle_mj_per_token": 2.4375,
        "power_source": "POM_5V_IN",
    }
    fields.update(changes)
    return BenchReport(**fields)


def test_a_report_is_written_exactly_so():
    assert json.loads(GOLDEN.read_text()) == bench_report.document(report())
    assert GOLDEN.read_text() == jsonio.dumps(bench_report.document(report()))


@pytest.mark.parametrize("layout", ["json", "jsonl", "single"])
def test_what_was_written_is_read_back(tmp_path, layout):
    reports = [report(), report(n_prompt=8, n_gen=0, roofline=None, roofline_fraction=None)]
    documents = [bench_report.document(item) for item in reports]
    if layout == "single":
        reports, text = reports[:1], json.dumps(documents[0])
    elif layout == "json":
        text = json.dumps(documents)
    else:
        text = "".join(json.dumps(item) + "\n" for item in documents)
    path = tmp_path / "bench.json"
    path.write_text(text)
    assert bench_report.read_reports(str(path)) == reports


def test_a_report_from_before_executed_bytes_were_counted_can_be_read(tmp_path):
    written = json.loads(GOLDEN.read_text())
    del written["roofline"]["executed_bytes"]
    path = tmp_path / "bench.json"
    path.write_text(json.dumps([written]))
    (found,) = bench_report.read_reports(str(path))
    assert found == report(roofline=report().roofline._replace(executed_bytes=None))


def test_a_report_from_before_power_was_measured_can_be_read(tmp_path):
    written = json.loads(GOLDEN.read_text())
    later = ["idle_power_w", "energy_above_idle_mj_per_token", "power_source"]
    for name in later:
        del written[name]
    written.update(power_w=None, energy_mj_per_token=None)
    path = tmp_path / "bench.json"
    path.write_text(json.dumps([written]))
    (found,) = bench_report.read_reports(str(path))
    assert [getattr(found, name) for name in ["power_w", *later]] == [None] * 4


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"schema": "merino-edge.bench/2"}, SchemaVersionError, "bench/2"),
        ({"schema": "other/1"}, FormatError, "other/1"),
        ({"speed": 3}, FormatError, "speed: unknown field"),
        ({"samples_ns": [1.5]}, FormatError, r"samples_ns\[0\]"),
    ],
)
def test_another_kind_of_file_is_refused(tmp_path, change, error, words):
    path = tmp_path / "bench.json"
    path.write_text(json.dumps([{**bench_report.document(report()), **change}]))
    with pytest.raises(error, match=words):
        bench_report.read_reports(str(path))


def test_a_file_that_is_no_json_says_so(tmp_path):
    path = tmp_path / "bench.json"
    path.write_text("not a report\n")
    with pytest.raises(FormatError, match="not JSON"):
        bench_report.read_reports(str(path))


def test_labels_are_those_of_llama_bench():
    assert BenchCase(512, 0).label == "pp512"
    assert BenchCase(0, 128).label == "tg128"
    assert BenchCase(0, 128, 256).label == "tg128 @ d256"
    assert report().case.label == "tg4 @ d128"


def test_comma_lists_give_every_combination():
    cases = bench_report.cross_product([8, 16], [4], [0, 32], repetitions=3, warmup=0)
    labels = [case.label for case in cases]
    assert labels == ["pp8", "pp16", "tg4", "pp8 @ d32", "pp16 @ d32", "tg4 @ d32"]
    assert {(case.repetitions, case.warmup) for case in cases} == {(3, 0)}


def test_zero_leaves_a_kind_out_and_both_zero_is_refused():
    assert [c.label for c in bench_report.cross_product([0], [4], [0], 1, 0)] == ["tg4"]
    with pytest.raises(SpecError, match="both 0"):
        bench_report.cross_product([0], [0], [0], 1, 0)


def test_the_table_shows_spread_and_share_of_bandwidth():
    row = dict(zip(bench_report.TABLE_HEADER, bench_report.table_row(report()), strict=True))
    assert row["test"] == "tg4 @ d128"
    assert row["t/s"] == "1500.00 ± 707.11"
    assert row["ms/token p50"] == "0.75"
    assert row["of bandwidth"] == "33 %"


def test_the_table_leaves_out_what_was_not_measured():
    single = report(n_prompt=4, n_gen=0, stddev_ts=None, itl_ms=None, roofline_fraction=None)
    row = bench_report.table_row(single)
    assert row[-4:] == ("1500.00", "-", "-", "-")


def test_csv_holds_one_line_a_report_and_a_column_a_value():
    text = bench_report.csv_text([report(), report(n_prompt=4, n_gen=0, itl_ms=None)])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 2
    assert rows[0]["device.cpu"] == "Cortex-A57"
    assert rows[0]["samples_ns"] == "2000000 4000000"
    assert rows[0]["itl_ms.p50"] == "0.75"
    assert rows[1]["itl_ms.p50"] == ""
