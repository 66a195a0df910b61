"""The front page's tables: parts of those of the pages, and words for what was not measured."""

import importlib
import re
import shutil
import sys

import pytest
from repository import ROOT

from merino_edge.errors import FormatError
from merino_edge.formats import jsonio

BENCHMARKS = ROOT / "benchmarks"
TWO = """Before.

| maximises | each | fast |
| --------- | ---: | ---: |
| entropy   | 1 ms |      |
| random    | 2 ms |  yes |

| maximises | shape   |
| --------- | ------: |
| random    | a x1    |
| random    | b x1    |
| nothing   | a | b   |
"""


@pytest.fixture(scope="module")
def front():
    """The module, found as ``pages.py`` finds it."""
    pytest.importorskip("scipy")
    sys.path.append(str(BENCHMARKS))
    importlib.import_module("pages")
    return importlib.import_module("front_page")


@pytest.fixture(scope="module")
def parts():
    sys.path.append(str(BENCHMARKS / "common"))
    return importlib.import_module("table_parts")


@pytest.fixture
def results(front, monkeypatch, tmp_path):
    """A copy of all results, to add to; latency tables are read from their own place."""
    shutil.copytree(BENCHMARKS / "results", tmp_path / "results")
    monkeypatch.setattr(front, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_every_table_of_a_text_is_found_and_comes_out_as_it_went_in(parts):
    first, second = parts.tables_in(TWO)
    assert first.header == ("maximises", "each", "fast")
    assert first.rows == (("entropy", "1 ms", ""), ("random", "2 ms", "yes"))
    assert str(first) in TWO
    assert [row[0] for row in second.rows] == ["random", "random", "nothing"]


def test_columns_and_rows_are_picked_by_name(parts):
    first, _ = parts.tables_in(TWO)
    found = parts.columns(parts.rows(first, ["random"]), fast="is fast")
    assert found == parts.Table(("maximises", "is fast"), (("random", "yes"),))
    assert parts.where(first, "fast", "yes").rows == (("random", "2 ms", "yes"),)
    assert parts.named(first, {"random": "chance"}).rows[1][0] == "chance"


def test_rows_of_one_name_stand_side_by_side_and_several_in_one_cell(parts):
    first, second = parts.tables_in(TWO)
    found = parts.beside(parts.columns(first, "each"), parts.columns(second, "shape"))
    assert found.rows == (("entropy", "1 ms", ""), ("random", "2 ms", "a x1, b x1"))
    assert parts.below(first, parts.columns(first, "fast")).rows[2:] == (
        ("entropy", "", ""),
        ("random", "", "yes"),
    )


@pytest.mark.parametrize(
    ("pick", "wrong"),
    [
        (lambda parts, table: parts.columns(table, "slow"), "no column 'slow'"),
        (lambda parts, table: parts.rows(table, ["dss"]), "no row 'dss'"),
    ],
)
def test_what_a_table_does_not_have_is_named(parts, pick, wrong):
    with pytest.raises(FormatError, match=wrong):
        pick(parts, parts.tables_in(TWO)[0])


def test_every_table_says_where_when_and_from_which_file_it_is(front):
    for mark, text in front.tables().items():
        if text.startswith("Not measured yet"):
            continue
        assert "](benchmarks/results/" in text, mark
        if mark != "study":  # whose file names no machine, as it says
            assert re.search(r" cores, 20\d\d-\d\d-\d\d, load before \d", text), mark


def test_a_doubt_about_the_peers_is_shown(front, results):
    path, kind = str(results / "peers/results.json"), front.peers_report
    report = jsonio.read_record(path, kind.SCHEMA, kind.Report)
    jsonio.write_record(path, kind.SCHEMA, report._replace(warnings=["a neighbour was loud."]))
    assert "**Mistrust these figures: a neighbour was loud.**" in front.tables()["peers"]


def test_what_was_not_measured_yet_says_so(front, results):
    for name in ("headline/headline.json", "coverage.json"):
        (results / name).unlink(missing_ok=True)
    found = front.tables()
    assert found["headline"] == "Not measured yet: `make bench` writes `headline/headline.json`."
    assert found["coverage"] == "Not measured yet: `make coverage` writes `coverage.json`."


def test_a_headline_that_was_measured_is_shown_with_its_ratios(front, results):
    report = front.headline_report
    sizes = [
        report.Size(name, n, n, 10 * n, 12 * n, n / 1e6, n / 1e5, 2 * n)
        for name, n in (("merino-64m", 60_000_000), ("opt-350m", 330_000_000))
    ]
    forms = [("native", "int8"), ("native", "fp32"), ("ort", "fp32")]
    times = [
        report.Times(size.model, *form, size.n_params, size.n_params, [1.0 + i], [9.0])
        for i, size in enumerate(sizes)
        for form in forms
    ]
    whole = front.presets_report
    found = jsonio.read_record(str(results / "search/presets.json"), whole.SCHEMA, whole.Report)
    made = report.Report(found.provenance, 2, 128, 64, sizes, times)
    (results / "headline").mkdir(exist_ok=True)
    jsonio.write_record(str(results / "headline/headline.json"), report.SCHEMA, made)
    text = front.tables()["headline"]
    assert "with 2 threads: " in text
    ratios, forms_shown = front.tables_in(text)
    shown = dict(ratios.rows)
    assert (shown["stored parameters"], shown["a token, native int8 (measured)"]) == (
        "5.50",
        "2.00",
    )
    assert not any("native fp32" in name for name in shown)
    assert [row[0] for row in forms_shown.rows] == ["merino-64m", "opt-350m"]


def test_a_contest_takes_the_place_of_its_pilot_with_all_seeds_in_a_cell(front, results):
    kind = front.contest_report
    pilot = jsonio.read_record(
        str(results / "quality/contest-pilot.json"), kind.SCHEMA, kind.Report
    )
    second = [run._replace(seed=1, val_bits_per_byte=1.25) for run in pilot.runs]
    both = pilot._replace(runs=[*pilot.runs, *second])
    jsonio.write_record(str(results / "quality/contest.json"), kind.SCHEMA, both)
    text = front.tables()["contest"]
    assert text.startswith("Trained, seed 0, 1: ")
    assert "`quality/contest.json`" in text
    assert "pilot" not in text
    (shown,) = front.tables_in(text)
    assert len(shown.rows) == len({run.contestant for run in pilot.runs})
    assert all(any(cell.endswith(", 1.2500") for cell in row) for row in shown.rows)


def test_what_the_tests_run_is_one_row(front, results):
    pytest.importorskip("coverage")
    kind = importlib.import_module("coverage_table")
    packages = [kind.Share("merino_edge.core", 90, 81, 10, 9)]
    provenance = front._read(front.presets_report, "search/presets.json").provenance
    total = packages[0]._replace(name="all")
    report = kind.Report(provenance, "all but slow ones", total, packages, packages)
    jsonio.write_record(str(results / "coverage.json"), kind.SCHEMA, report)
    text = front.tables()["coverage"]
    assert text.startswith("Counted, all but slow ones: ")
    (shown,) = front.tables_in(text)
    assert shown.rows == (("all", "90", "10", "90.0 %"),)
