"""The scripts that compare objectives and solve the paper's budgets: real runs, small settings."""

import json
import os
import subprocess
import sys

import pytest
from repository import ROOT

from merino_edge.core import counting, targets
from merino_edge.core import space as spaces
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture, describe
from merino_edge.search.config import SearchConfig
from merino_edge.search.objectives import OBJECTIVES
from merino_edge.search.run import run_search

# OPT-350M by hand: 24 layers of width 1024, a joint from 512 before and one to 512 behind them.
_BODY = 2 * 1024 * (24 * (12 * 1024**2 + 2 * 1024 * 1024) + 512 * 1024)
OPT_350M = (331_196_416, _BODY, _BODY + 2 * 1024 * 512 * (1024 + 50272))


def run_script(name, folder, *options):
    command = [sys.executable, str(ROOT / "benchmarks" / "search" / name), *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def report_of(done, path):
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def baselines(tmp_path_factory):
    """One generation of few candidates, so that all objectives choose among the same."""
    folder = tmp_path_factory.mktemp("baselines")
    few = ("--candidates", "12", "--population", "12")
    few += ("--many", "2k", "-o", "found.json")
    done = run_script("baselines.py", folder, "--spaces", "tiny", *few)
    return report_of(done, folder / "found.json"), done


@pytest.mark.torch
def test_each_objective_finds_the_best_of_the_same_few_by_its_own_measure(baselines):
    ((rows),) = [comparison["rows"] for comparison in baselines[0]["comparisons"]]
    assert [row["objective"] for row in rows] == [*OBJECTIVES, "dss", "synflow"]
    for row in rows:
        name = row["objective"]
        own = row["few_winner"]["values"][name]
        assert own == max(other["few_winner"]["values"][name] for other in rows)
    assert len({row["few_winner"]["arch_id"] for row in rows}) > 2


@pytest.mark.torch
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_full_search_is_the_one_that_a_user_gets(baselines, name):
    config = SearchConfig(candidates=2000, objective=name, certify=False)
    target = targets.get("host")
    best = run_search(spaces.get("tiny"), target.default_budget, config, target).best
    winner = {row["objective"]: row for row in baselines[0]["comparisons"][0]["rows"]}[name]
    winner = winner["many_winner"]
    assert winner["arch_id"] == best.architecture.arch_id
    assert winner["shape"] == describe(best.architecture)
    assert winner["n_params"] == winner["values"]["params"] == best.cost.n_params
    assert winner["prefill_flops"] == winner["values"]["flops"] == best.cost.prefill_flops
    assert winner["values"]["entropy"] == pytest.approx(best.entropy.total)


@pytest.mark.torch
def test_ratios_are_to_the_entropy_and_predictions_are_never_called_measured(baselines):
    report, done = baselines
    rows = report["comparisons"][0]["rows"]
    for row in rows:
        for size in ("few", "many"):
            ratio = row[size]["seconds"] / rows[0][size]["seconds"]
            assert row[size]["times_entropy"] == pytest.approx(ratio)
        assert row["few"]["measured"]
        assert row["few"]["cpu_seconds"] > 0.0
    predicted = [row for row in rows if not row["many"]["measured"]]
    assert [row["objective"] for row in predicted] == ["dss", "synflow"]
    for row in predicted:
        assert row["many_winner"] is None
        assert row["many"]["cpu_seconds"] is None
        assert row["many"]["seconds"] == pytest.approx(row["few"]["seconds"] * 2000 / 12)
    assert done.stdout.count("predicted by proportion") == 2
    assert report["torch_threads"] == 1
    assert set(report["provenance"]["versions"]) == {"merino-edge", "numpy", "torch"}


@pytest.mark.torch
def test_the_tables_have_a_row_for_each_objective_and_a_winner_for_each_search(baselines):
    report, done = baselines
    lines = done.stdout.splitlines()
    for row in report["comparisons"][0]["rows"]:
        cells = [line.split("|") for line in lines if line.startswith(f"| {row['objective']} ")]
        assert len(cells) == (2 if row["many_winner"] is None else 3)
        assert len(cells[0]) == 8
        assert cells[1][2].strip() == row["few_winner"]["shape"].replace("|", "/")
    assert "12 candidates" in done.stderr


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets")
    few = ("--candidates", "3k", "--seeds", "2")
    done = run_script("presets.py", folder, "--budgets", "52M/60G", *few, "-o", "found.json")
    return report_of(done, folder / "found.json"), done


def test_a_preset_is_proven_and_evolution_is_held_against_the_proof(presets):
    (ours,) = presets[0]["ours"]
    a = jsonio.decode(Architecture, ours["architecture"])
    assert a in spaces.get("paper")
    assert ours["size"]["n_params"] == counting.n_params(a) <= 52_000_000
    assert ours["size"]["body_flops"] == counting.prefill_flops(a) <= 60_000_000_000
    assert ours["n_params_unshared"] > ours["size"]["n_params"]
    assert ours["certificate"]["complete"]
    assert ours["certificate"]["best_total"] == pytest.approx(ours["entropy"])
    assert [run["seed"] for run in ours["evolutions"]] == [0, 1]
    for run in ours["evolutions"]:
        assert run["gap"] == pytest.approx(1.0 - run["entropy"] / ours["entropy"])
        assert 0.0 < run["gap"] < 1.0  # 3,000 candidates are far too few
    assert 0.0 < ours["proof_s"] < ours["exact_s"]


def test_every_ratio_stands_in_the_table_under_each_convention(presets):
    report, done = presets
    size, reference = report["ours"][0]["size"], report["reference"]
    assert tuple(reference.values()) == OPT_350M
    ratios = [reference[name] / size[name] for name in size]
    ratios.insert(1, 350_000_000 / size["n_params"])
    row = [line for line in done.stdout.splitlines() if line.startswith("| 52M/60G ")][-1]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == [f"{ratio:.2f} ×" for ratio in ratios]
    paper = [line for line in done.stdout.splitlines() if line.startswith("| paper's 64M ")]
    assert "5.5 ×" in paper[0]
    assert "4.5 × (convention not published)" in paper[0]


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--budgets", "64M"], 2, "'64M' is not a budget; write 64M/160G."),
        (["--budgets", "64M/many"], 2, "'many' is not a size"),
        (["--budgets", "1M/160G"], 6, "nothing in the space 'paper' keeps this budget"),
        (["-o", "nowhere/found.json"], 2, "there is no folder"),
    ],
)
def test_what_cannot_be_done_ends_with_a_sentence(tmp_path, options, code, reason):
    done = run_script("presets.py", tmp_path, "-o", "found.json", *options)
    assert done.returncode == code
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.torch
def test_fewer_candidates_than_survivors_are_refused_before_time_is_spent(tmp_path):
    few = ("--spaces", "tiny", "--candidates", "5", "-o", "found.json")
    done = run_script("baselines.py", tmp_path, *few)
    assert done.returncode == 2
    assert "5 candidates cannot fill a population of 64" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", [pytest.param("baselines.py", marks=pytest.mark.torch), "presets.py"]
)
def test_help_is_the_docstring_with_an_example(tmp_path, name):
    done = run_script(name, tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    assert "The one idea:" in done.stdout
    assert f"python benchmarks/search/{name}" in done.stdout
    assert f"(benchmarks/results/search/{name[:-2]}json)" in done.stdout
