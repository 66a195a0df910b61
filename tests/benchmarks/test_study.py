"""The study: a plan that anyone draws again, and statistics that say what they should."""

import importlib.util
import sys

import numpy as np
import pytest
from repository import ROOT

from merino_edge.core import counting
from merino_edge.core.entropy import EntropyConfig, network_entropy
from merino_edge.formats import jsonio

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

STUDY = ROOT / "benchmarks" / "search" / "study"
RESULTS = ROOT / "benchmarks" / "results" / "search" / "study"
pytestmark = pytest.mark.torch


def load(name):
    """A script of the study as a module; they import each other by their bare names."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, STUDY / f"{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


plan_of = load("plan")
proxies = load("proxies")
analyse = load("analyse")


@pytest.fixture(scope="module")
def plan():
    return jsonio.read_record(str(RESULTS / "plan.json"), plan_of.SCHEMA, plan_of.Plan)


@pytest.fixture(scope="module")
def banded(plan):
    return [run for run in plan.runs if analyse.is_banded(run)]


def members_with(banded, loss_of):
    return [
        analyse.Member(run.group, run.architecture, loss_of(run.architecture)) for run in banded
    ]


@pytest.mark.slow
def test_the_plan_is_drawn_again_from_its_seed(plan):
    assert jsonio.encode(plan_of.make_plan()) == jsonio.encode(plan)


def test_members_of_a_band_cost_the_same_and_differ_in_shape(banded):
    groups = {}
    for run in banded:
        groups.setdefault(run.group, []).append(run.architecture)
    assert len(groups) == 11
    for group, members in groups.items():
        kind, centre = group.removeprefix("even ").split()
        count = counting.n_params if kind == "params" else lambda a: counting.prefill_flops(a, 128)
        assert all(abs(count(a) / float(centre) - 1) <= 0.05 for a in members), group
        assert len({a.arch_id for a in members}) == 8
        layers = [a.n_layers for a in members]
        assert max(layers) >= 1.4 * min(layers)
        if group.startswith("even"):
            assert all(a.blocks[-1].d_model <= 1.5 * a.blocks[0].d_model for a in members)


def test_an_unshared_twin_has_the_same_layers_and_more_parameters(plan, banded):
    members = {run.architecture.arch_id: run.architecture for run in banded}
    twins = [run for run in plan.runs if run.group == "unshared twin"]
    assert len(twins) == 8
    for twin in twins:
        shared = members[twin.of]
        assert twin.architecture.n_layers == shared.n_layers
        assert counting.prefill_flops(twin.architecture) == counting.prefill_flops(shared)
        assert counting.n_params(twin.architecture) > counting.n_params(shared)


def test_a_proxy_that_knows_the_losses_correlates_fully_whatever_is_asked(banded):
    members = members_with(banded, lambda a: -network_entropy(a, EntropyConfig(form="off")).raw)
    truth = np.array([-member.loss for member in members])
    sample = analyse.Sample.of(members, range(len(members)), 128)
    for ask in analyse.QUESTIONS.values():
        for measure in analyse.MEASURES.values():
            assert ask(measure, truth, sample) == pytest.approx(1.0)
            assert ask(measure, -truth, sample) == pytest.approx(-1.0)


def test_a_proxy_that_only_knows_the_size_correlates_overall_and_not_within_bands(banded):
    flops = [run for run in banded if run.group.startswith("flops")]
    rng = np.random.default_rng(0)
    members = members_with(
        flops, lambda a: -np.log(counting.prefill_flops(a, 128)) + 0.05 * rng.random()
    )
    size = np.array([float(m.group.split()[1]) for m in members])
    size += rng.random(len(size))  # within a band it knows nothing
    sample = analyse.Sample.of(members, range(len(members)), 128)
    assert analyse.overall(analyse.spearman, size, sample) > 0.9
    assert abs(analyse.within_bands(analyse.spearman, size, sample)) < 0.5


def test_an_interval_holds_its_estimate_and_is_wide_for_chance(banded, monkeypatch):
    monkeypatch.setattr(analyse, "N_BOOTSTRAP", 50)
    members = members_with(banded, proxies.chance)
    values = {
        "decoder parameters": np.array([proxies.decoder_params(m.architecture) for m in members])
    }
    (row,) = analyse.correlate(members, values, 128)
    for question in analyse.QUESTIONS:
        found, low, high = row[f"spearman {question}"]
        assert low <= found <= high
        assert high - low > 0.15
    assert "| decoder parameters |" in analyse.table([row])


def test_the_fit_finds_the_constants_that_made_the_losses(banded):
    config = EntropyConfig(alpha2=4.0, gamma0=1 / 4)
    members = members_with(banded, lambda a: -network_entropy(a, config).total)
    result = analyse.fit(members, 128, n_splits=2)
    assert result["mean"]["tested"] > 0.97
    assert result["mean"]["tested"] > result["mean"]["default tested"]


@pytest.fixture
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_run_trains_and_says_what_it_saw(tmp_path, plan, threads_as_before):
    train = load("train")
    words = "the sheep of the valley sleeps and the shepherd of the hill counts the sheep "
    rng = np.random.default_rng(0)
    for name in ("train", "val"):
        text = " ".join(rng.permutation(words.split() * 40)) + " " + bytes(range(32, 127)).decode()
        (tmp_path / name).write_text(text * 5)
    texts = train.prepare(str(tmp_path / "train"), str(tmp_path / "val"), 300, str(tmp_path))
    assert texts.facts["train"]["n_tokens"] > 1000
    small = plan.runs[0]._replace(architecture=plan.runs[0].architecture._replace(vocab_size=300))
    record = train.train_one((small, texts, 12))
    assert record["n_tokens"] == 12 * 1024
    assert 1.0 < record["val_loss"] < 6.0
    assert record["n_params"] == counting.n_params(small.architecture)
    assert record == {**train.train_one((small, texts, 12)), "train_s": record["train_s"]}
