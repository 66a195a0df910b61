"""The pages show the results that are committed, and nobody needs torch to make them."""

import os
import subprocess
import sys

import pytest
from repository import ROOT

from merino_edge.errors import FormatError

BENCHMARKS = ROOT / "benchmarks"
CHECK = f"""
import runpy, sys
sys.argv = ["pages.py", "--check"]
try:
    runpy.run_path({str(BENCHMARKS / "pages.py")!r}, run_name="__main__")
finally:
    assert "torch" not in sys.modules, "a page needs torch"
"""


@pytest.fixture(scope="module")
def pages():
    sys.path.append(str(BENCHMARKS))
    import pages as script

    return script


@pytest.fixture
def copy_of(pages, tmp_path, monkeypatch):
    """A copy of a page in a folder of the test, where the script finds it instead of the page."""

    def copy(folder, change):
        path = tmp_path / "README.md"
        path.write_text(change((BENCHMARKS / folder / "README.md").read_text("utf-8")), "utf-8")
        monkeypatch.setattr(pages, "page_of", lambda folder: path)
        return path

    return copy


@pytest.mark.onnx
def test_every_page_shows_its_results_and_this_is_told_without_torch():
    pytest.importorskip("scipy")
    done = subprocess.run(
        [sys.executable, "-c", CHECK],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_a_figure_that_was_edited_by_hand_is_told_and_made_right(pages, copy_of):
    right = (BENCHMARKS / "native" / "README.md").read_text("utf-8")
    path = copy_of("native", lambda page: page.replace("| native int4 ", "| native int5 ", 1))
    assert path.read_text("utf-8") != right
    assert "does not show its results" in pages.problem("native", check=True)
    assert path.read_text("utf-8") != right
    assert pages.problem("native", check=False) is None
    assert path.read_text("utf-8") == right


def test_a_mark_that_nothing_fills_is_one_line(pages, copy_of):
    path = copy_of("soak", lambda page: page.replace("<!-- table soak -->", "<!-- table sock -->"))
    assert "the page has tables ['round_trip', 'sock']" in pages.problem("soak", check=False)
    assert "sock" in path.read_text("utf-8")


def test_what_was_not_measured_is_said_to_be_so(pages, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    found = pages.tables("headline", ["headline_sizes", "headline_times"])
    assert set(found.values()) == {"Not measured yet: the results have no `headline.json`."}


def test_a_drawing_is_shown_where_there_is_one(pages):
    found = pages.tables("quality", [])
    assert "](../results/quality/contest-pilot.svg)" in found["pilot"]


def test_a_page_without_a_table_that_there_is_is_refused(pages):
    with pytest.raises(FormatError, match="the page has tables \\[\\], there are \\['a'\\]"):
        pages.filled("no marks", {"a": "1"})


def test_no_two_scripts_have_one_name():
    """They find each other by their bare names, all folders on one path."""
    names = [path.stem for path in BENCHMARKS.rglob("*.py") if path.stem != "__init__"]
    assert sorted(names) == sorted(set(names))
