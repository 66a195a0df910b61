"""The script that checks the closed form: a real run on a small space, and what its file says."""

import json
import os
import subprocess
import sys

import pytest
from repository import ROOT

from merino_edge.core import space as spaces
from merino_edge.core.entropy import matrix_entropy
from merino_edge.core.entropy_table import by_svd, monte_carlo, space_shapes

# Depth / width by hand, from the models' public configurations.
GAMMA = {
    "OPT-125M": 12 / 768,
    "OPT-350M": 24 / 1024,
    "GPT-2": 12 / 768,
    "Pythia-70M": 6 / 512,
    "Pythia-160M": 12 / 768,
    "SmolLM2-135M": 30 / 576,
}


def run_script(folder, *options, threads="1"):
    command = [sys.executable, str(ROOT / "benchmarks" / "search" / "entropy_tables.py")]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": threads}
    return subprocess.run([*command, *options], cwd=folder, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    done = run_script(folder, "--space", "tiny", "--draws", "3", "--seed", "5", "-o", "t.json")
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "t.json").read_text("utf-8"))


def test_every_shape_of_the_space_is_there_three_ways(done):
    rows = done[1]["shapes"]
    assert [(row["m"], row["n"]) for row in rows] == [*space_shapes(spaces.get("tiny"))]
    for row in rows[:5]:
        shape = row["m"], row["n"], 1.0
        assert row["closed_form"] == matrix_entropy(*shape)
        assert row["drawn_mean"] == pytest.approx(monte_carlo(*shape, 3, 5).mean)
        assert row["svd_mean"] == pytest.approx(by_svd(*shape, 3, 5).mean)


def test_the_closed_form_is_quicker_by_orders_of_magnitude(done):
    """Not a timed test: a factor of ten is lost only if the formula is not what was timed."""
    rows = done[1]["shapes"]
    times = [sum(r[name] for r in rows) for name in ("closed_form_s", "cholesky_s", "svd_s")]
    assert 0.0 < 10 * times[0] < min(times[1:])


def test_the_table_for_people_sums_the_rows_and_names_the_worst(done):
    out, document = done
    rows = document["shapes"]
    worst = max(rows, key=lambda row: abs(row["closed_form"] / row["drawn_mean"] - 1))
    line = next(line for line in out.splitlines() if line.startswith("| closed form"))
    assert f"{worst['closed_form'] / worst['drawn_mean'] - 1:+.1e}" in line
    assert f"at {worst['m']} x {worst['n']}" in line
    assert f"{sum(row['closed_form_s'] for row in rows):.3g}" in line


def test_known_models_have_every_form_with_every_constant(done):
    out, document = done
    models = {row["name"]: row for row in document["models"]}
    assert set(models) == set(GAMMA)
    for name, row in models.items():
        gamma = GAMMA[name]
        assert row["gamma"] == pytest.approx(gamma)
        expected = {("off", None): 1.0}
        for gamma0 in (1 / 32, 1 / 16, 1 / 8):
            expected["factor", gamma0] = max(0.0, 1.0 - gamma / gamma0)
            expected["hard", gamma0] = float(gamma <= gamma0)
            expected["literal", gamma0] = 1.0 - gamma * gamma0
        found = {(e["form"], e["gamma0"]): e["effectiveness"] for e in row["effects"]}
        assert found == pytest.approx(expected)
        assert all(
            e["total"] == pytest.approx(row["raw"] * e["effectiveness"]) for e in row["effects"]
        )
        line = next(line for line in out.splitlines() if line.startswith(f"| {name} "))
        assert f"{row['raw']:,.0f}" in line


def test_an_ungated_models_entropy_is_the_sum_over_its_matrices(done):
    gpt2 = next(row for row in done[1]["models"] if row["name"] == "GPT-2")
    layer = 4 * matrix_entropy(768, 768) + 2 * matrix_entropy(768, 3072)
    assert gpt2["raw"] == pytest.approx(12 * layer)


@pytest.mark.parametrize(
    ("options", "threads", "words"),
    [
        (["--draws", "1"], "1", "draws is 1"),
        (["--eps", "0"], "1", "eps is 0.0"),
        (["--space", "huge"], "1", "there is no space 'huge'"),
        (["--space", "tiny"], "2", "OMP_NUM_THREADS=1"),
    ],
)
def test_a_bad_request_ends_with_a_sentence_and_no_file(tmp_path, options, threads, words):
    done = run_script(tmp_path, "-o", "t.json", *options, threads=threads)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
