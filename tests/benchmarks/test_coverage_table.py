"""What the tests run, package by package: sums, names, and no table of nothing."""

import json
import os
import subprocess
import sys

import pytest
from repository import ROOT

pytest.importorskip("coverage")
SCRIPT = ROOT / "benchmarks/coverage_table.py"


@pytest.fixture(scope="module")
def script():
    sys.path.append(str(SCRIPT.parent))
    import coverage_table

    return coverage_table


def summary(statements, run, branches, taken):
    return {
        "summary": {
            "num_statements": statements,
            "covered_lines": run,
            "num_branches": branches,
            "covered_branches": taken,
        }
    }


def test_modules_are_summed_by_package_and_the_roots_own_stay_with_it(script):
    found = {
        "merino_edge/errors.py": summary(10, 10, 0, 0),
        "merino_edge/core/__init__.py": summary(0, 0, 0, 0),
        "/elsewhere/merino_edge/core/space.py": summary(60, 50, 20, 10),
        "merino_edge/runtime/engine/door.py": summary(20, 20, 10, 10),
    }
    shares = script.packages_of([script.share_of(path, each) for path, each in found.items()])

    assert [(each.name, each.n_missed) for each in shares] == [
        ("merino_edge", 0),
        ("merino_edge.core", 20),
        ("merino_edge.runtime", 0),
    ]
    assert [each.percent for each in shares] == [100.0, 75.0, 100.0]
    assert "| merino_edge.core | 60 | 20 | 20 | 75.0 % |" in script.table("package", shares)


def test_a_process_that_a_measured_one_starts_is_measured_too(tmp_path):
    """With the project's own settings, but for one of its packages, which is faster."""
    settings = (ROOT / "setup.cfg").read_text("utf-8")
    assert "source_pkgs = merino_edge\n" in settings
    few = settings.replace("source_pkgs = merino_edge\n", "source_pkgs = merino_edge.cli\n")
    (tmp_path / "setup.cfg").write_text(few)
    code = "from merino_edge.cli.main import main; main(['--version'])"
    start = f"import subprocess, sys; subprocess.check_call([sys.executable, '-c', {code!r}])"
    (tmp_path / "start.py").write_text(start)
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")},
        "COVERAGE_FILE": str(tmp_path / "coverage"),
        "PYTHONPATH": str(ROOT),
    }

    def run(*words):
        subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, check=True, capture_output=True
        )

    run("-m", "coverage", "run", tmp_path / "start.py")
    run("-m", "coverage", "combine")
    run(SCRIPT, "--data", tmp_path / "coverage", "--tests", "a child", "-o", tmp_path / "out.json")

    report = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert report["tests"] == "a child"
    assert [each["name"] for each in report["packages"]] == ["merino_edge.cli"]
    assert report["total"]["n_statements_run"] > 20


def test_without_data_one_sentence_says_how_to_get_some(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--data", tmp_path / "none", "-o", tmp_path / "out.json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "there is no file" in done.stderr
    assert "make coverage" in done.stderr
