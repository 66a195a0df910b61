"""Benchmarks report what was done, on real (tiny) runs; no test depends on how fast they were."""

import functools
import subprocess
import sys

import numpy as np
import pytest
from board_files import NANO_HEAT, NANO_INPUT, NANO_RAILS
from doubles import native_bundle, random_tensors, tiny_architecture, tiny_bundle, write_tree

from merino_edge.errors import SessionError
from merino_edge.formats.bench_report import BenchCase
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.native_file import read_tensors
from merino_edge.runtime import load, memory
from merino_edge.runtime.bench import run_bench
from merino_edge.runtime.memory import peak_rss_bytes
from merino_edge.runtime.rails import sysfs_source
from merino_edge.runtime.roofline import (
    Bandwidth,
    decode_bytes_per_token,
    measure_bandwidth,
    weights_bytes,
    with_roofline,
)
from merino_edge.runtime.telemetry import Sampler, Telemetry


class Recorder:
    """A real session that notes which calls were made of it."""

    def __init__(self, session):
        self._session = session
        self.calls = []

    def __getattr__(self, name):
        return getattr(self._session, name)

    def prefill(self, ids):
        self.calls.append(f"p{len(ids)}")
        return self._session.prefill(ids)

    def step(self, token_id):
        self.calls.append("s")
        return self._session.step(token_id)

    def reset(self):
        self.calls.append("r")
        self._session.reset()


@pytest.fixture
def bundle(tmp_path):
    return Bundle.open(tiny_bundle(tmp_path / "bundle"))


@pytest.fixture
def session(bundle):
    with load(bundle.path, backend="reference") as opened:
        yield opened


def test_reports_hold_every_sample_and_their_sums(bundle, session):
    cases = [BenchCase(6, 0, 0, repetitions=3), BenchCase(0, 5, 2, repetitions=3)]
    prompt, decode = run_bench(bundle, session, cases)
    assert (prompt.case.label, decode.case.label) == ("pp6", "tg5 @ d2")
    assert len(prompt.samples_ns) == len(decode.samples_ns) == 3
    assert (prompt.ttft_ms.n, prompt.itl_ms) == (3, None)
    assert (decode.itl_ms.n, decode.ttft_ms) == (15, None)
    assert decode.itl_ms.mean * 15 == pytest.approx(sum(decode.samples_ns) / 1e6)
    assert decode.avg_ts == pytest.approx(np.mean([5e9 / ns for ns in decode.samples_ns]))
    assert (decode.backend, decode.provenance, decode.bundle_id) == (
        "reference",
        "measured",
        bundle.bundle_id,
    )
    assert decode.model_size == 4 * decode.model_n_params == weights_bytes(bundle, "reference")
    assert session.position == 0


def test_each_repetition_starts_afresh_at_its_depth_and_warm_up_comes_first(bundle, session):
    recorder = Recorder(session)
    run_bench(bundle, recorder, [BenchCase(0, 2, 3, repetitions=2, warmup=1)])
    assert recorder.calls == ["r", "p3", "s", "s"] * 3 + ["r"]


def test_a_case_that_does_not_fit_is_refused_before_anything_is_measured(bundle, session):
    recorder = Recorder(session)
    cases = [BenchCase(4, 0), BenchCase(0, 40, 9)]
    with pytest.raises(SessionError, match="tg40 @ d9 needs 49 positions, the context holds 48"):
        run_bench(bundle, recorder, cases)
    assert recorder.calls == []


@pytest.fixture
def nano(tmp_path):
    """A Nano's files, looked at so often that a tiny model's run is seen; 1.25 W idle, then 4.5."""
    root = write_tree(tmp_path / "nano", {**NANO_RAILS, **NANO_HEAT, NANO_INPUT: "1250\n"})
    often = functools.partial(Sampler, rate_hz=2000.0)
    telemetry = Telemetry(sysfs_source(root), root, often)
    telemetry.measure_idle(seconds=0.1)
    write_tree(root, {NANO_INPUT: "4500\n"})
    return telemetry


def test_a_token_costs_its_power_times_its_time_and_less_above_idle(bundle, session, nano):
    (report,) = run_bench(bundle, session, [BenchCase(0, 30, repetitions=5)], telemetry=nano)
    ms = report.avg_ns / 30 / 1e6
    assert (report.power_w, report.idle_power_w) == (pytest.approx(4.5), pytest.approx(1.25))
    assert report.energy_mj_per_token == pytest.approx(4.5 * ms)
    assert report.energy_above_idle_mj_per_token == pytest.approx(3.25 * ms)
    assert report.power_source == "POM_5V_IN"
    assert report.conditions.throttled is False


def test_a_board_that_throttles_under_a_benchmark_says_by_what(bundle, session, nano, tmp_path):
    write_tree(tmp_path / "nano", {"/sys/class/thermal/cooling_device2/cur_state": "1\n"})
    (report,) = run_bench(bundle, session, [BenchCase(0, 4)], telemetry=nano)
    assert report.conditions.throttled is True
    assert (
        "the board throttled while this was measured: gpu-balanced." in report.conditions.warnings
    )


def test_without_a_rail_no_power_is_stated(bundle, session, tmp_path):
    bare = Telemetry.open(str(tmp_path))
    (report,) = run_bench(bundle, session, [BenchCase(4, 0)], telemetry=bare)
    assert {report.power_w, report.energy_mj_per_token, report.idle_power_w} == {None}
    assert report.energy_above_idle_mj_per_token is report.power_source is None
    assert report.conditions.throttled is None


def test_weights_that_fit_the_cpu_cache_get_no_share_of_bandwidth(bundle, session):
    (report,) = run_bench(bundle, session, [BenchCase(0, 4, repetitions=1)])
    small = report.device._replace(last_cache_bytes=1 << 30)
    speed = Bandwidth(1e9, "given")
    assert with_roofline(report._replace(device=small), bundle, speed).roofline_fraction is None
    tiny_cache = report.device._replace(last_cache_bytes=1024)
    found = with_roofline(report._replace(device=tiny_cache, avg_ns=4_000_000), bundle, speed)
    # bytes / 1e9 bytes per second, over 1 ms a token
    assert found.roofline_fraction == pytest.approx(found.roofline.bytes_per_token / 1e6)


@pytest.mark.parametrize("tied", [True, False])
def test_bytes_of_a_token_are_all_matrices_but_the_tables_rows(tmp_path, tied):
    a = tiny_architecture(tie_embeddings=tied)
    bundle = Bundle.open(tiny_bundle(tmp_path / "bundle", a))
    sizes = {name: 4 * t.size for name, t in random_tensors(a, 0).items()}
    expected = sum(sizes.values()) - sizes["pos_embed.weight"] + 4 * 16  # one row of 16
    if not tied:
        expected += 4 * 16 - sizes["embed.weight"]
    kv_row = 2 * 4 * (16 + 16 + 24)  # keys and values, float32, three layer applications
    again = sum(sizes[name] for name in sizes if name.startswith(("blocks.0.attn", "blocks.0.ffn")))
    read = decode_bytes_per_token(bundle, "reference", 10)
    assert read.once == expected + 10 * kv_row
    assert read.executed == read.once + again  # the first block is applied twice


def test_a_native_bundle_is_counted_by_its_own_file_and_cache(tmp_path, native_library):
    path = native_bundle(tmp_path / "bundle", precision="int4")
    bundle = Bundle.open(path)
    with load(path, backend="native", threads=1) as session:
        (report,) = run_bench(bundle, session, [BenchCase(0, 4, 10, repetitions=1)])
    places = read_tensors(bundle.file("native"), bundle.manifest.architecture)
    sizes = {name: place.n_bytes for name, place in places.items()}
    again = sum(sizes[name] for name in sizes if name.startswith(("blocks.0.attn", "blocks.0.ffn")))
    kv_row = 2 * 2 * (16 + 16 + 24)  # float16

    assert report.model_size == sum(sizes.values())
    assert report.kv_cache_bytes == 48 * kv_row
    # 10 tokens before, and half of 4: the positions' table gives one row of its 48
    read = sum(sizes.values()) - sizes["pos_embed.weight"] * 47 // 48 + 12 * kv_row
    assert report.roofline.bytes_per_token == read
    assert report.roofline.executed_bytes == read + again


def test_bandwidth_is_measured_over_more_than_the_cache():
    found = measure_bandwidth(last_cache_bytes=80 << 20)
    assert "320 MB" in found.method
    assert 1e8 < found.bytes_per_s < 5e12  # between a slow board and no machine at all


def test_peak_memory_grows_with_what_is_held():
    before = peak_rss_bytes()
    held = np.ones(before // 4 * 2, dtype=np.uint8)  # touches half as much again
    assert peak_rss_bytes() >= before
    assert peak_rss_bytes() > held.nbytes


def test_peak_memory_is_not_that_of_the_process_which_started_it():
    ask = "from merino_edge.runtime.memory import peak_rss_bytes; print(peak_rss_bytes())"
    held = np.ones(1 << 28, dtype=np.uint8)
    asked = subprocess.run([sys.executable, "-c", ask], stdout=subprocess.PIPE, check=True)
    assert 10**6 < int(asked.stdout) < held.nbytes


@pytest.mark.parametrize("status", [None, "Name:\tpython\n"], ids=["no /proc", "a kernel's thread"])
def test_peak_memory_is_told_where_proc_does_not(tmp_path, monkeypatch, status):
    path = tmp_path / "status"
    if status is not None:
        path.write_text(status)
    read = memory._high_water_bytes
    monkeypatch.setattr(memory, "_high_water_bytes", lambda _: read(str(path)))
    assert peak_rss_bytes() > 10**6
