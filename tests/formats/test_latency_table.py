"""A table of latencies: what it promises, what it refuses, how it is merged."""

import json

import pytest
from latency_tables import table_by

from merino_edge.errors import ChecksumError, FormatError, SpecError, UsageError
from merino_edge.formats import jsonio
from merino_edge.formats import latency_table as tables
from merino_edge.formats.latency_merge import merge
from merino_edge.formats.latency_table import Workload, read_table, write_table


@pytest.fixture(scope="module")
def table():
    return table_by(lambda a, workload: 0.1 * workload.length, n_fit=16, n_held_out=4)


def test_it_comes_back_as_it_was(tmp_path, table):
    path = str(tmp_path / "t.json")
    write_table(path, table)
    assert read_table(path) == table


def test_a_table_that_was_edited_by_hand_says_so(tmp_path, table):
    path = tmp_path / "t.json"
    write_table(str(path), table)
    document = json.loads(path.read_text())
    document["rows"][0]["samples_ms"][0] *= 0.5
    path.write_text(json.dumps(document))
    with pytest.raises(ChecksumError, match="changed since it was made"):
        read_table(str(path))


IMPOSSIBLE = {
    "a time below zero": ("rows.0.samples_ms.0", -1.0, "no time"),
    "a time of nothing": ("rows.0.raw_ms.0", 0.0, "no time"),
    "an energy below zero": ("rows.0.energy_mj", -3.0, "no energy"),
    "another architecture": ("rows.0.architecture", "0" * 12, "not in the table"),
    "an unknown workload": ("rows.0.workload", "train@12", "no workload"),
    "rounds that are not as many": ("rows.0.rounds", [1], "1 rounds"),
    "an unknown provenance": ("provenance", "guessed", "not measured or predicted"),
    "an unknown field": ("colour", "red", "unknown field"),
}


@pytest.mark.parametrize("fault", IMPOSSIBLE)
def test_impossible_values_are_named_with_their_place(tmp_path, table, fault):
    where, value, message = IMPOSSIBLE[fault]
    path = tmp_path / "t.json"
    write_table(str(path), table)
    document = json.loads(path.read_text())
    *steps, last = where.split(".")
    place = document
    for step in steps:
        place = place[int(step) if isinstance(place, list) else step]
    place[int(last) if isinstance(place, list) else last] = value
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match=message):
        read_table(str(path))


def test_rows_under_throttling_are_not_used(table):
    first = table.rows[0]
    hot = table.replace(rows=[first._replace(throttled=True), *table.rows[1:]])
    role, phase = table.roles[first.architecture], Workload.of_label(first.workload).phase
    assert len(hot.rows_of(role, phase)) == len(table.rows_of(role, phase)) - 1


def test_tables_of_one_setting_become_one(table):
    half = len(table.rows) // 2
    parts = [table.replace(rows=table.rows[:half]), table.replace(rows=table.rows[half:])]
    assert merge(parts).rows == table.rows


UNLIKE = {
    "threads": lambda t: t.replace(setting=t.setting._replace(threads=4)),
    "precision": lambda t: t.replace(setting=t.setting._replace(precision="int8")),
    "power mode": lambda t: t.replace(setting=t.setting._replace(power_mode="5W")),
    "device": lambda t: t.replace(device=t.device._replace(model="a board")),
    "provenance": lambda t: t.replace(provenance="predicted"),
}


@pytest.mark.parametrize("what", UNLIKE)
def test_unlike_tables_are_merged_only_by_who_insists(table, what):
    other = UNLIKE[what](table)
    with pytest.raises(UsageError, match=what):
        merge([table, other])
    assert len(merge([table, other], unlike=True).rows) == len(table.rows)


@pytest.mark.parametrize("label", ["decode", "decode@", "decode@0", "decode@-1", "decode@1.5", ""])
def test_a_label_that_is_none_is_refused(label):
    with pytest.raises(SpecError, match="no workload"):
        Workload.of_label(label)


def test_the_digest_is_of_the_content_alone(table):
    content, other = jsonio.encode(table), jsonio.encode(table.replace(seed=table.seed + 1))
    assert jsonio.digest(content) == jsonio.digest(dict(reversed(content.items())))
    assert jsonio.digest(content) != jsonio.digest(other)


def test_a_file_without_fields_of_later_versions_is_still_valid(tmp_path, table):
    path = tmp_path / "t.json"
    content = jsonio.encode(table)
    for row in content["rows"]:
        del row["peak_rss_bytes"]
    document = {"schema": tables.SCHEMA, "digest": jsonio.digest(content), **content}
    path.write_text(json.dumps(document))
    assert read_table(str(path)) == table
