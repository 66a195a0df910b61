"""Figures for Prometheus: read by its own parser, and never made up."""

import time

import pytest
from board_files import NANO_RAILS
from doubles import JETSON_NANO, native_bundle, tiny_bundle, write_tree
from serving_stand import answer, asked, connect, head_of, post_bytes, stand

from merino_edge.runtime.rails import PowerSource
from merino_edge.runtime.serving.metrics import Metrics, gauge_lines
from merino_edge.runtime.serving.power import PowerMeter

parser = pytest.importorskip(
    "prometheus_client.parser", reason="the official parser: pip install prometheus-client"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("measures") / "bundle")


def figures(service):
    """(name, labels) -> value, of /metrics."""
    with connect(service) as connection:
        connection.sendall(head_of("GET", "/metrics"))
        status, headers, body = answer(connection)
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(body.decode("utf-8"))
        for sample in family.samples
    }


def test_requests_tokens_and_times_are_counted(bundle):
    with stand(bundle) as service:
        asked(service, post_bytes("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 5}))
        asked(service, post_bytes("/v1/completions", {"n": 2}))
        asked(service, head_of("GET", "/secret"))
        found = figures(service)
    path = ("path", "/v1/completions")
    assert found[("merino_edge_http_requests_total", path, ("status", "200"))] == 1
    assert found[("merino_edge_http_requests_total", path, ("status", "400"))] == 1
    other = ("path", "other"), ("status", "404")
    assert found[("merino_edge_http_requests_total", *other)] == 1
    assert found[("merino_edge_prompt_tokens_total",)] == 3
    assert found[("merino_edge_generated_tokens_total",)] == 5
    assert found[("merino_edge_generations_total", ("reason", "length"))] == 1
    assert found[("merino_edge_time_to_first_token_seconds_count",)] == 1
    assert found[("merino_edge_inter_token_seconds_count",)] == 4
    assert found[("merino_edge_requests_waiting",)] == 0
    assert found[("process_resident_memory_bytes",)] > 1e6


def test_what_this_machine_does_not_measure_is_absent(bundle, tmp_path):
    with stand(bundle, root=write_tree(tmp_path, {"/proc/stat": ""})) as service:
        names = {key[0] for key in figures(service)}
        assert service.measures.watts is None
    for word in ("watt", "joule", "energy", "celsius", "throttled"):
        assert [name for name in names if word in name] == []


def test_a_board_tells_power_temperature_and_energy_of_a_token(
    native_library, tmp_path, monkeypatch
):
    root = write_tree(tmp_path / "board", {**JETSON_NANO, **NANO_RAILS})
    monkeypatch.setattr(
        "merino_edge.runtime.serving.scheduler.Scheduler._turn", slowly(), raising=True
    )
    bundle = native_bundle(tmp_path / "bundle")
    with stand(bundle, 1, root=root) as service:
        body = {"prompt": "a", "max_tokens": 30, "min_tokens": 30}
        _, _, found = asked(service, post_bytes("/v1/completions", body))
        counted = figures(service)
    busy_share = found["usage"]["energy_mj"] / 2520.0  # of a second, at 2.52 W
    assert 0 < busy_share < 1
    assert found["usage"]["energy_mj_per_token"] == pytest.approx(
        found["usage"]["energy_mj"] / 30, abs=1e-3
    )
    assert counted[("merino_edge_power_watts",)] == 2.52
    assert counted[("merino_edge_temperature_celsius",)] == 34.5
    per_token_j = counted[("merino_edge_energy_per_token_joules",)]
    assert per_token_j == pytest.approx(found["usage"]["energy_mj"] / 30e3, rel=1e-3)


def slowly():
    from merino_edge.runtime.serving.scheduler import Scheduler

    turn = Scheduler._turn

    def slow(self, running):
        time.sleep(0.01)
        return turn(self, running)

    return slow


def test_a_rail_that_stops_answering_leaves_no_energy():
    values = [2.0, 2.0, None, None, None, None, 2.0, 2.0, 2.0]
    meter = PowerMeter(PowerSource("rail", lambda: values.pop(0), lambda: None))
    start = meter._sums
    for at_s in range(9):
        meter.look(1.0 + 0.1 * at_s)
    assert meter._sums.covered_s == pytest.approx(0.3)  # one interval before the gap, two after
    values.append(2.0)
    assert meter.mean_w_since(start) is None


def test_readings_add_up_to_the_area_under_them():
    values = [1.0, 2.0, 3.0, 3.0, 3.0]
    meter = PowerMeter(PowerSource("rail", lambda: values.pop(0) if values else 3.0, lambda: None))
    begun_s = time.perf_counter() - 0.4
    meter.look(begun_s)
    start = meter._sums
    for index in range(1, 5):
        meter.look(begun_s + 0.1 * index)
    assert meter.mean_w_since(start) == pytest.approx((0.15 + 0.25 + 0.3 + 0.3) / 0.4, rel=0.05)


def test_histograms_are_cumulative_and_labels_are_escaped():
    metrics = Metrics()
    metrics.histogram("wait_seconds", "Waiting.", (0.1, 1.0))
    metrics.counter("seen_total", "Seen.")
    for value in (0.05, 0.1, 0.5, 7.0):
        metrics.observe("wait_seconds", value)
    metrics.add("seen_total", path='a"b\\c\nd')
    lines = metrics.lines() + gauge_lines("nothing", "Never.", None)
    families = {f.name: f for f in parser.text_string_to_metric_families("\n".join(lines) + "\n")}
    buckets = [s for s in families["wait_seconds"].samples if "le" in s.labels]
    assert [(float(s.labels["le"]), s.value) for s in buckets] == [
        (0.1, 2),
        (1.0, 3),
        (float("inf"), 4),
    ]
    assert 'a"b\\c\nd' in [s.labels.get("path") for s in families["seen"].samples]
    assert "nothing" not in families
