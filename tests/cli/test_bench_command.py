"""What ``bench`` prints under its table where a board shows its power."""

import argparse
import json
import re

import pytest
from board_files import JETSON_ORIN, NANO_HEAT, NANO_RAILS, ORIN_HEAT, ORIN_RAILS
from doubles import JETSON_NANO, tiny_bundle, write_tree

from merino_edge.cli.commands import bench
from merino_edge.errors import UsageError
from merino_edge.runtime import bench as runtime_bench
from merino_edge.runtime.rails import sysfs_source
from merino_edge.runtime.telemetry import Telemetry


def run(tmp_path, *words):
    parser = argparse.ArgumentParser()
    bench.configure(parser)
    path = tmp_path / "bundle"
    if not path.exists():
        tiny_bundle(path)
    arguments = parser.parse_args([str(path), "--backend", "reference", "--quiet", *words])
    assert bench.run(arguments) == 0


@pytest.fixture
def board(tmp_path, monkeypatch):
    """Makes ``bench`` see a board that consists of files."""

    def be(*files):
        root = write_tree(tmp_path / "board", {k: v for each in files for k, v in each.items()})
        monkeypatch.setattr(
            runtime_bench.Telemetry, "open", lambda: Telemetry(sysfs_source(root), root)
        )

    return be


def test_a_nano_states_energy_both_ways_and_its_heat(tmp_path, capsys, board):
    board(JETSON_NANO, NANO_RAILS, NANO_HEAT)
    run(tmp_path, "-p", "0", "-n", "40", "-r", "40")
    out = capsys.readouterr().out
    line = (
        r"^tg40: 2\.52 W at POM_5V_IN, [\d.]+ mJ a token, -?0\.0 mJ of it above idle \(2\.52 W\)$"
    )
    assert re.search(line, out, re.MULTILINE), out
    assert "temperature 34 to 34 C, no throttling seen\n" in out
    assert "power mode MAXN;" in out


def test_an_orin_states_power_of_volts_and_amperes_and_that_it_was_held_back(
    tmp_path, capsys, board
):
    limits = {**ORIN_HEAT, "/sys/class/thermal/cooling_device0/cur_state": "1"}
    board(JETSON_ORIN, ORIN_RAILS, limits)
    run(tmp_path, "-p", "0", "-n", "40", "-r", "40")
    out, err = capsys.readouterr()
    assert re.search(r"^tg40: 6\.00 W at VDD_IN, ", out, re.MULTILINE), out
    assert "temperature 48 to 48 C, throttling seen\n" in out
    assert "throttled while this was measured: cpu-throttle-alert" in err
    assert "not MAXN" not in err  # MAXN_SUPER is the highest of an Orin Nano


def test_the_table_for_scripts_has_power_heat_and_energy(tmp_path, capsys, board):
    board(JETSON_ORIN, ORIN_RAILS, ORIN_HEAT)
    run(tmp_path, "-p", "0", "-n", "40", "-r", "40", "-o", "json")
    (found,) = json.loads(capsys.readouterr().out)
    assert found["power_w"] == pytest.approx(6.0)
    assert found["energy_mj_per_token"] > 0.0
    assert found["conditions"]["temp_c_end"] == 48.5
    assert found["conditions"]["throttled"] is False
    assert found["conditions"]["power_mode"] == "MAXN_SUPER"


def test_a_machine_that_tells_nothing_is_said_to_be_not_measured(tmp_path, capsys, board):
    board({"/proc/loadavg": "0.1 0.1 0.1 1/1 1\n"})
    run(tmp_path, "-p", "4", "-n", "0", "-r", "1")
    out = capsys.readouterr().out
    assert " W at " not in out
    assert (
        "temperature not measured, throttling not measured, power and energy not measured\n" in out
    )


def measured(tmp_path, capsys, *words):
    """A file of reports that ``bench`` wrote."""
    run(tmp_path, "-o", "json", *words)
    path = tmp_path / "old.json"
    path.write_text(capsys.readouterr().out)
    return path


def bend(path, **fields):
    """Other values in every report of a file."""
    path.write_text(json.dumps([{**each, **fields} for each in json.loads(path.read_text())]))


CASES = ("-p", "0", "-n", "4", "-r", "3")


@pytest.mark.parametrize(
    ("samples_ts", "verdict"),
    [([1e-3] * 3, "faster"), ([1e9] * 3, "slower"), ([1e-3, 1e9], "not told apart")],
)
def test_a_case_is_faster_only_where_no_repetition_reaches_into_the_other_run(
    tmp_path, capsys, samples_ts, verdict
):
    old = measured(tmp_path, capsys, *CASES)
    bend(old, samples_ts=samples_ts)
    run(tmp_path, *CASES, "--compare", str(old))
    out = capsys.readouterr().out
    assert re.search(rf"^\| tg4 .*{verdict} \|$", out, re.MULTILINE), out
    assert "not the same" not in out


def test_what_else_is_not_the_same_is_said(tmp_path, capsys):
    old = measured(tmp_path, capsys, *CASES)
    bend(old, bundle_id="0" * 12, engine="another")
    run(tmp_path, *CASES, "--compare", str(old))
    out = capsys.readouterr().out
    assert "not the same: bundle: " in out
    assert "not the same: engine: another then, numpy " in out
    assert "not the same: machine" not in out


def test_a_doubt_about_the_earlier_run_is_not_forgotten(tmp_path, capsys):
    old = measured(tmp_path, capsys, *CASES)
    (report,) = json.loads(old.read_text())
    bend(old, conditions={**report["conditions"], "warnings": ["a neighbour was loud."]})
    run(tmp_path, *CASES, "--compare", str(old))
    assert "warning: tg4, then: a neighbour was loud." in capsys.readouterr().err


def test_a_comparison_leaves_stdout_to_the_script(tmp_path, capsys):
    old = measured(tmp_path, capsys, *CASES)
    run(tmp_path, *CASES, "-o", "json", "--compare", str(old))
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 1
    assert "now / then" in err


def test_a_case_that_the_file_lacks_has_no_ratio(tmp_path, capsys):
    old = measured(tmp_path, capsys, *CASES)
    run(tmp_path, "-p", "0", "-n", "4,5", "-r", "2", "--compare", str(old))
    assert re.search(r"^\| tg5 .* not in the file \|$", capsys.readouterr().out, re.MULTILINE)


def test_nothing_is_measured_where_there_is_nothing_to_compare(tmp_path, capsys):
    old = measured(tmp_path, capsys, *CASES)
    with pytest.raises(UsageError, match=r"this is tg6, '.*old\.json' has tg4"):
        run(tmp_path, "-p", "0", "-n", "6", "--compare", str(old))
    assert capsys.readouterr().out == ""
