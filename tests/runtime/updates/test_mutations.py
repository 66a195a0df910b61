"""Changed archives and manifests are taken or refused; the slow twin takes 10,000 of each."""

import json
import subprocess
import sys

import pytest
from repository import ROOT

FOLDER = ROOT / "benchmarks" / "updates"


@pytest.fixture
def mutate():
    sys.path += [str(FOLDER), str(ROOT / "benchmarks" / "common")]
    import mutate

    yield mutate
    del sys.path[-2:]


@pytest.mark.parametrize(("kind", "n"), [("archives", 200), ("manifests", 300)])
def test_what_was_changed_is_taken_or_refused_with_a_reason(mutate, tmp_path, kind, n):
    jail = mutate.Jail(tmp_path)
    mutate.each(getattr(mutate, kind)(), n, 0, getattr(jail, "try_" + kind[:-1]))
    assert jail.accepted
    assert sum(jail.refused.values()) > jail.accepted


@pytest.mark.slow
def test_ten_thousand_of_each(tmp_path):
    command = [sys.executable, str(FOLDER / "mutate.py"), "-n", "10000", "-o", "found.json"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    kinds = {
        each["kind"]: each for each in json.loads((tmp_path / "found.json").read_text())["tried"]
    }
    assert kinds["archives"]["n"] >= 10_000
    assert kinds["manifests"]["n"] >= 10_000
