"""``profile``: probes that are built here and timed there, tables that are put together."""

import json
import os
import sys

import pytest
from latency_tables import law_ms, table_by

from merino_edge.cli.main import main
from merino_edge.core.latency_fit import FEWEST_DECODERS
from merino_edge.core.latency_work import stored_in
from merino_edge.formats.latency_table import read_table, write_table

PROBES = ["--target", "nano-cpu", "--space", "tiny", "--context", "128", "--held-out", "2", "-q"]
PROBES += ["--fit", str(FEWEST_DECODERS), "--build-only", "probes"]


def measured():
    """A table of a known law."""
    return table_by(lambda a, load: law_ms(a, load, stored_in("int4")))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.torch
@pytest.mark.onnx
@pytest.mark.usefixtures("native_library")
def test_probes_are_built_then_timed_and_the_table_is_judged(here, capsys):
    assert main(["profile", *PROBES]) == 0
    assert "next: copy probes to the board" in capsys.readouterr().out
    timing = ["profile", "probes", "--threads", "1", "--max-minutes", "0.001", "-o", "t.json"]
    assert main(timing) == 0
    printed = capsys.readouterr()
    assert "next: merino-edge search --latency-table t.json" in printed.out
    assert f"{len(read_table('t.json').rows)} rows" in printed.err
    assert not os.path.exists("t.json.run")
    assert main(timing) == 2
    assert "'t.json' exists" in capsys.readouterr().err


def test_a_folder_for_the_probes_has_to_be_named(here, capsys):
    pytest.importorskip("torch")
    assert main(["profile", "--build-only"]) == 2
    assert "--build-only needs a folder" in capsys.readouterr().err


@pytest.mark.torch
def test_a_folder_of_other_probes_is_kept_unless_told(here, capsys):
    assert main(["profile", *PROBES]) == 0
    assert main(["profile", *PROBES, "--seed", "1"]) != 0
    assert "holds other probes" in capsys.readouterr().err
    assert main(["profile", *PROBES, "--seed", "1", "--force"]) == 0


def test_tables_of_one_setting_are_put_together(here, capsys):
    rows = measured().rows
    write_table("one.json", measured().replace(rows=rows[:40], validation={}))
    write_table("two.json", measured().replace(rows=rows[40:], validation={}))
    merging = ["profile", "--merge", "one.json", "two.json", "-o", "both.json"]
    assert main([*merging, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert len(read_table("both.json").rows) == len(rows)


def test_tables_of_two_settings_are_not(here, capsys):
    other = measured().setting._replace(threads=7)
    write_table("one.json", measured())
    write_table("two.json", measured().replace(setting=other))
    assert main(["profile", "--merge", "one.json", "two.json", "-o", "both.json"]) == 2
    assert "threads" in capsys.readouterr().err
    assert sorted(os.listdir(here)) == ["one.json", "two.json"]


def test_without_scipy_a_table_is_shown_as_it_is(here, monkeypatch, capsys):
    write_table("t.json", measured().replace(validation={}))
    monkeypatch.setitem(sys.modules, "merino_edge.core.latency_check", None)
    assert main(["profile", "--show", "t.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["validation"] == {}
