"""The contest of architectures: who takes part keeps the budget, and a training is done once."""

import argparse
import copy
import importlib
import sys
from pathlib import Path

import pytest
from repository import ROOT

from merino_edge.core import counting
from merino_edge.errors import FormatError, UsageError
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture, BlockSpec

FOLDER = ROOT / "benchmarks" / "quality"
RESULTS = ROOT / "benchmarks" / "results" / "quality"
pytestmark = [pytest.mark.torch, pytest.mark.onnx]


@pytest.fixture(scope="module")
def scripts():
    pytest.importorskip("torch")
    sys.path.append(str(FOLDER))
    return importlib.import_module("entrants"), importlib.import_module("contest")


@pytest.fixture(scope="module")
def field(scripts):
    who = scripts[0]
    return jsonio.read_record(str(RESULTS / "contestants.json"), who.SCHEMA, who.Contestants)


def test_all_but_the_unshared_twin_keep_the_budget(scripts, field):
    assert field.budget == scripts[0].BUDGET
    for c in field.contestants:
        assert c.n_params == counting.n_params(c.architecture)
        assert c.prefill_flops == counting.prefill_flops(c.architecture)
        assert c.prefill_flops <= field.budget.max_flops
        over = c.n_params > field.budget.max_params
        assert over == (c.name == "searched, not shared")


def test_the_unshared_twin_computes_as_much_and_stores_more(field):
    shared, twin = field.contestants[:2]
    assert twin.n_params_executed == shared.n_params_executed
    assert twin.prefill_flops == shared.prefill_flops
    assert twin.n_params > shared.n_params


def test_the_plot_has_a_line_for_each_contestant(scripts, field, tmp_path):
    pytest.importorskip("matplotlib")
    plot = importlib.import_module("contest_plot")
    report = jsonio.read_record(
        str(RESULTS / "contest-pilot.json"), scripts[1].SCHEMA, scripts[1].Report
    )
    plot.draw(report, str(tmp_path / "plot.svg"))
    drawn = (tmp_path / "plot.svg").read_text("utf-8")
    assert all(contestant.name in drawn for contestant in field.contestants)
    with pytest.raises(FormatError, match="no training of this contest has a curve"):
        plot.draw(report._replace(runs=[]), str(tmp_path / "none.svg"))


@pytest.mark.slow
def test_who_takes_part_is_found_again(scripts, field):
    assert scripts[0].contestants() == field.contestants


@pytest.fixture
def options(scripts, tmp_path):
    """A contest of one small decoder over a few thousand tokens."""
    from merino_edge.cli.main import main

    who = scripts[0]
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{i} sheep jumped over {i * i} fences.\n" for i in range(3000)))
    data = str(tmp_path / "tokens")
    assert main(["tokenize", "--corpus", str(text), "--vocab-size", "300", "-o", data, "-q"]) == 0
    for name, file in (("wikitext-2", "wiki.test.tokens"), ("ptb", "ptb.test.txt")):
        (tmp_path / "lm" / name).mkdir(parents=True)
        (tmp_path / "lm" / name / file).write_text(" nine sheep jumped \n over one fence \n" * 30)
    a = Architecture(blocks=(BlockSpec(16, 2, 2, 32, 1),), vocab_size=300, max_seq_len=32)
    one = who.Contestant("one", "by hand", a, counting.n_params(a), counting.n_params(a), 0)
    path = str(tmp_path / "contestants.json")
    jsonio.write_record(path, who.SCHEMA, who.Contestants(who.BUDGET, [one]))
    return argparse.Namespace(
        contestants=path,
        data=data,
        texts=str(tmp_path),
        work=str(tmp_path / "work"),
        tokens=8192,
        trial_tokens=4096,
        factors="0.5,2",
        seeds=1,
        workers=2,
        precision="float32",
        earlier=None,
    )


@pytest.mark.slow
def test_rates_are_tried_and_a_training_that_is_done_is_not_repeated(scripts, options, tmp_path):
    contest = scripts[1]
    report = contest.make(options)
    trials, (full,) = report.runs[:2], report.runs[2:]
    assert full.learning_rate == min(trials, key=lambda run: run.val_loss).learning_rate
    assert full.n_tokens == 8192
    assert set(full.scores) == {"wikitext2", "ptb"}
    assert [point[0] for point in full.curve][-1] == 8192
    assert full.scores["ptb"]["bits_per_byte"] > 0
    lines = Path(options.work, "runs.jsonl").read_text()
    assert contest.make(options).runs == report.runs
    assert Path(options.work, "runs.jsonl").read_text() == lines
    assert len(lines.splitlines()) == 3
    assert "one" in contest.markdown(report)

    again = copy.copy(options)
    again.earlier, again.work = str(tmp_path / "earlier.json"), str(tmp_path / "elsewhere")
    jsonio.write_record(again.earlier, contest.SCHEMA, report)
    assert contest.make(again).runs == report.runs
    assert not Path(again.work, "runs.jsonl").exists()
    again.precision = "bfloat16"
    with pytest.raises(UsageError, match="its precision is float32, here bfloat16"):
        contest.make(again)


def test_seeds_are_compared_one_by_one(scripts):
    kind = importlib.import_module("contest_report")

    def run(name, seed, bits):
        scores = {
            text: {"bits_per_byte": bits + 0.5, "word_perplexity_eos": 9} for text in kind.TEXTS
        }
        return kind.Run(name, seed, 100, 0.1, 2.0, bits, 1.0, scores)

    one = [run("a", 0, 1.0), run("b", 0, 1.25), run("c", 0, 3.0)]
    assert kind.seeds_table(kind.Report(None, {}, one)) == ""
    found = kind.seeds_table(kind.Report(None, {}, [*one, run("a", 1, 1.5), run("b", 1, 1.25)]))
    rows = [[cell.strip() for cell in line.split("|")] for line in found.splitlines()[2:]]
    more = "+0.0000 (+0.2500, -0.2500)"
    assert rows[0][1:7] == ["a", "2", "1.2500", "", "", ""]
    assert rows[1][1:7] == ["b", "2", "1.2500", more, more, more]
    assert len(rows) == 2


@pytest.mark.slow
def test_contestants_are_timed_in_turns(scripts, options, native_library):
    times = importlib.import_module("entrant_times")
    words = argparse.Namespace(
        contestants=options.contestants,
        work=str(Path(options.work) / "times"),
        precision="int8",
        threads=1,
        tokens=16,
        rounds=2,
    )
    (one,) = times.make(words).times
    assert one.contestant == "one"
    assert len(one.itl_ms) == len(one.prefill_ms) == 2
    assert min(one.itl_ms) > 0
