"""A power cut at any step leaves something that boots; benchmarks/updates has the whole sweep."""

import json
import shutil
import subprocess
import sys

import pytest
from repository import ROOT

from merino_edge.runtime.updates import durable

FOLDER = ROOT / "benchmarks" / "updates"


@pytest.fixture(scope="module")
def cuts():
    sys.path += [str(FOLDER), str(ROOT / "benchmarks" / "common")]
    import power_cuts

    yield power_cuts
    del sys.path[-2:]


@pytest.fixture
def archives(cuts, tmp_path):
    return cuts.make_archives(tmp_path / "archives")


def scene(cuts, name):
    return next(each for each in cuts.SCENES if each.name == name)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(
    ("name", "every"), [("install over the first", 16), ("activate the second", 10)]
)
def test_a_command_killed_as_it_writes_leaves_a_slot_that_boots(
    cuts, archives, tmp_path, name, every
):
    hit, faults, code = cuts.killed(scene(cuts, name), tmp_path, archives, every)
    assert (faults, code) == ([], 0)
    assert sum(hit.values()) >= 2


@pytest.mark.parametrize("name", ["boot ends a crash loop", "install the second"])
def test_losing_what_was_not_synced_leaves_a_slot_that_boots(cuts, archives, tmp_path, name):
    _, n_disks, faults = cuts.lost(scene(cuts, name), tmp_path, archives, 7, 1, 0)
    assert faults == []
    assert n_disks >= 2


def test_without_syncing_files_the_loss_is_found(cuts, archives, tmp_path, monkeypatch):
    """The sweep itself is on trial: it must notice a ``durable`` that only seems to be."""
    find = cuts.lost_writes.certain

    def forgetting(operations):
        writes = [operation.kind == "write" for operation in operations]
        return [found and not write for found, write in zip(find(operations), writes)]

    monkeypatch.setattr(cuts.lost_writes, "certain", forgetting)
    _, _, faults = cuts.lost(scene(cuts, "activate the second"), tmp_path, archives, 8, 0, 0)
    assert faults


def test_a_link_that_is_removed_before_it_is_made_anew_is_found(
    cuts, archives, tmp_path, monkeypatch
):
    def clumsy(link, target):
        durable.remove(link)
        durable.os.symlink(target, link)

    monkeypatch.setattr(durable, "point", clumsy)
    _, _, faults = cuts.lost(scene(cuts, "roll back by hand"), tmp_path, archives, 2, 0, 0)
    assert any("current: absent" in fault for fault in faults)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_whole_sweep_finds_nothing(tmp_path):
    command = [sys.executable, str(FOLDER / "power_cuts.py"), "-o", "cuts.json"]
    subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"})
    found = json.loads((tmp_path / "cuts.json").read_text("utf-8"))
    assert found["faults"] == 0
    assert found["kill_points"] > 150


def test_the_committed_sweep_found_nothing():
    found = json.loads((ROOT / "benchmarks/results/updates/power_cuts.json").read_text("utf-8"))
    assert (found["faults"], found["every"]) == (0, 1)
