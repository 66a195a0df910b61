"""What ``bench`` prints under its table where a board shows its power."""

import argparse
import re

from board_files import NANO_HEAT, NANO_RAILS
from doubles import tiny_bundle, write_tree

from merino_edge.cli.commands import bench
from merino_edge.runtime import telemetry
from merino_edge.runtime.rails import sysfs_source


def run(tmp_path, *words):
    parser = argparse.ArgumentParser()
    bench.configure(parser)
    path = tiny_bundle(tmp_path / "bundle")
    arguments = parser.parse_args([path, "--backend", "reference", "--quiet", *words])
    assert bench.run(arguments) == 0


def test_energy_is_stated_both_ways(tmp_path, capsys, monkeypatch):
    root = write_tree(tmp_path / "nano", {**NANO_RAILS, **NANO_HEAT})
    monkeypatch.setattr(telemetry, "open_source", lambda _: sysfs_source(root))
    run(tmp_path, "-p", "0", "-n", "40", "-r", "60")
    out = capsys.readouterr().out
    line = (
        r"^tg40: 2\.52 W at POM_5V_IN, [\d.]+ mJ a token, -?0\.0 mJ of it above idle \(2\.52 W\)$"
    )
    assert re.search(line, out, re.MULTILINE), out


def test_without_a_rail_nothing_is_said_of_power(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(telemetry, "open_source", lambda _: None)
    run(tmp_path, "-p", "4", "-n", "0", "-r", "1")
    assert " W at " not in capsys.readouterr().out
