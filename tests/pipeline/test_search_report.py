"""The report of a search: one page that stands alone, says all, and lies about nothing."""

import csv
import json
import os
from dataclasses import replace
from functools import cache
from html import unescape

import pytest
from page_reader import assert_stands_alone, document, tables_of, words_in

from merino_edge.core import space as spaces
from merino_edge.core import targets
from merino_edge.core.budget import LIMITS, Budget
from merino_edge.core.cost import CostReport
from merino_edge.formats.architecture import describe
from merino_edge.pipeline import quantities
from merino_edge.pipeline import search_words as words
from merino_edge.pipeline.markup import Markup, tag
from merino_edge.pipeline.plots import linear_ticks, log_ticks
from merino_edge.pipeline.search_report import report_html, write_report
from merino_edge.search.config import SearchConfig
from merino_edge.search.exact import Certificate
from merino_edge.search.objectives import OBJECTIVES
from merino_edge.search.result import SearchResult
from merino_edge.search.run import run_search

QUICK = SearchConfig(candidates=20_000, population=128)
SMALL = Budget(max_params=2_000_000, max_flops=10_000_000_000)
EVERY_LIMIT = Budget(2_000_000, 10_000_000_000, 10_000_000, 8_000_000, 1.0, 5.0, 5.0)
SECTIONS = [
    "The architecture",
    "What it costs",
    "Where it comes from",
    "How the seeds converged",
    "The front",
    "Why not its neighbours",
    "How it came to be",
    "Runners-up",
    "What this does not say",
]
EMPTY_ELEMENTS = {"meta", "rect", "line", "path", "circle", "polygon"}


@cache
def found(target="nano", budget=SMALL, **changes):
    config = replace(QUICK, **changes)
    space = spaces.get("tiny")
    return run_search(space, budget, config, targets.get(target), keep_trials=True)


@cache
def full():
    """Three seeds, a front, every limit."""
    return found(budget=EVERY_LIMIT, n_seeds=3, front="latency_ms")


def text_of(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return stream.read()


def words_of(page):
    return words_in(document(page))


def rows_of(page, title):
    """The cells of the first table of a section, as text."""
    return tables_of(page, title)[0]


def test_the_page_refers_to_nothing_outside_itself():
    assert_stands_alone(report_html(full()), EMPTY_ELEMENTS)


def test_the_page_is_xml_and_every_picture_has_a_title():
    pictures = [svg for svg in document(report_html(full())).iter("svg") if svg.get("role")]
    assert len(pictures) == 1 + len(LIMITS) + 4 + 2  # blocks, limits, shares, two plots
    assert all(svg.find("title").text for svg in pictures)


def test_the_sections_come_in_the_order_in_which_people_ask():
    for result in (full(), found("host")):
        headings = [h.text for h in document(report_html(result)).iter("h2")]
        assert headings == SECTIONS


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "a\"b'c&amp;", "\x00\x1b]0;"])
def test_names_from_files_cannot_become_markup(hostile):
    page = report_html(full()._replace(space=hostile, target=hostile))
    assert "<script" not in page
    assert [child.tag for child in document(page)] == ["head", "body"]
    shown = hostile.translate({0: "\ufffd", 27: "\ufffd"})
    assert ("&amp;amp;" in page) == ("&" in hostile)
    assert shown in unescape(page)


def test_markup_is_only_what_tag_made():
    assert tag("p", "<b>", Markup("<i/>"), class_="<") == '<p class="&lt;">&lt;b&gt;<i/></p>'
    assert (
        tag("rect", x=1.0 / 3.0, rx=None, stroke_width=2) == '<rect x="0.33333" stroke-width="2"/>'
    )


def test_every_limit_stands_with_its_value_and_the_part_that_is_used():
    result = full()
    rows = rows_of(report_html(result), "What it costs")
    assert len(rows) == len(words.COSTS)
    for row, limit in zip(rows, sorted(LIMITS, key=lambda limit: _place(limit.shown))):
        value, bound = getattr(result.best.cost, limit.shown), getattr(EVERY_LIMIT, limit.field)
        unit = words.cost_words(limit.shown).unit
        assert quantities.human(value, unit) in row[1]
        assert row[2] == quantities.human(bound, unit)
        assert row[3].startswith(quantities.used(value / bound))
    assert all(row[2] == "" for row in rows[len(LIMITS) :])


def _place(cost):
    return [words.cost for words in words.COSTS].index(cost)


def test_a_prediction_is_called_one_wherever_a_latency_or_energy_stands():
    for name, value, *_ in rows_of(report_html(full()), "What it costs"):
        is_time = value.endswith(("ms", "mJ"))
        assert ("predicted (roofline)" in name) == is_time
        assert ("counted" in name) != is_time
    tight = found(budget=Budget(max_latency_ms=0.3))
    reasons = [row[1] for row in rows_of(report_html(tight), "Why not its neighbours")]
    assert any("over the limit" in reason for reason in reasons)
    for reason in reasons:
        assert ("latency per token" in reason) == ("predicted (roofline)" in reason)


def test_what_cannot_be_predicted_is_said_not_to_be_known():
    page = report_html(found("host"))
    rows = rows_of(page, "What it costs")
    assert [row[1] for row in rows if "latency" in row[0]] == ["not known", "not known"]
    assert "predicted (roofline)" not in words_of(page)


def test_every_block_is_drawn_as_wide_as_it_is_and_as_often_as_it_runs():
    a = full().best.architecture
    drawing = next(
        s for s in document(report_html(full())).iter("svg") if s.get("class") == "blocks"
    )
    text = "".join(drawing.itertext())
    widths = []
    for index, block in enumerate(a.blocks):
        assert f"block {index + 1}: × {block.depth}" in text
        assert f"width {block.d_model}, {block.n_head} heads" in text
        assert f"feed-forward {block.d_ff}" in text
        bars = [r for r in drawing.iter("rect") if f"fill-c{index}" in r.get("class").split()]
        assert len(bars) == block.depth
        assert sum("again" in bar.get("class") for bar in bars) == block.depth - 1
        widths += [float(bar.get("width").rstrip("%")) / block.d_model for bar in bars]
    assert widths == pytest.approx([widths[0]] * len(widths), rel=1e-3)
    joints = len(a.joints()) + (a.embed_dim != a.blocks[-1].d_model)
    assert len(list(drawing.iter("polygon"))) == joints


def test_the_parts_of_a_bar_fill_it():
    page = report_html(full())
    bars = [s for s in document(page).iter("svg") if s.get("class") == "stack"]
    assert len(bars) == 4
    for bar in bars:
        lengths = [float(part.get("width").rstrip("%")) for part in bar.iter("rect")]
        assert sum(lengths) == pytest.approx(100.0, abs=0.01)
    assert len(rows_of(page, "Where it comes from")) == len(full().parts)


def test_the_verdict_says_what_is_proven_and_no_more():
    best = full().best.entropy.total
    nearly = Certificate(best, best * 1.0008123, False, 84, 80)
    found_better = Certificate(best, best * 1.01, True, 84, 84)
    assert "Proven optimal" in words.verdict(full().certificate, "entropy")
    assert words.verdict(nearly, "entropy").startswith("At most 0.082 % below the best")
    assert words.verdict(found_better, "entropy").startswith("At most 1 % below the best")
    assert words.verdict(None, "depth").startswith("Nothing is proven")


@pytest.mark.parametrize(
    ("fraction", "shown"), [(0.0, "0 %"), (0.000801, "0.081 %"), (0.0123, "1.3 %"), (0.5, "50 %")]
)
def test_a_bound_is_rounded_up(fraction, shown):
    assert quantities.at_most(fraction) == shown


@pytest.mark.parametrize(
    ("fraction", "shown"), [(1.0, "100.0 %"), (0.99997, "99.9 %"), (0.991, "99.1 %")]
)
def test_only_what_is_used_up_is_called_so(fraction, shown):
    assert quantities.used(fraction) == shown


def test_each_seed_has_a_line_and_a_row():
    page = report_html(full())
    rows = rows_of(page, "How the seeds converged")
    assert [row[0] for row in rows] == ["seed 0", "seed 1", "seed 2"]
    assert [row[1] for row in rows] == [run.arch_id for run in full().seeds]
    plot = next(s for s in document(page).iter("svg") if s.get("class") == "plot")
    lines = [path for path in plot.iter("path") if path.get("class").startswith("line")]
    assert len({(line.get("class"), line.get("stroke-dasharray")) for line in lines}) == 3


def test_what_never_kept_the_budget_is_not_shown_as_the_best_so_far():
    run = full().seeds[0]
    bad = run.history[0]._replace(n_evaluated=1, n_fitting=0, best_total=9e9)
    result = full()._replace(seeds=(run._replace(history=(bad, *run.history)),))
    plot = next(s for s in document(report_html(result)).iter("svg") if s.get("class") == "plot")
    assert len(list(plot.iter("circle"))) == len(run.history)
    assert "9 G" not in "".join(plot.itertext())


def test_a_seed_that_found_nothing_says_so():
    one, *others = full().seeds
    history = tuple(s._replace(n_fitting=0, best_total=9e9) for s in one.history)
    lost = one._replace(best_total=9e9, history=history)
    rows = rows_of(report_html(full()._replace(seeds=(lost, *others))), "How the seeds converged")
    assert rows[0][:2] == ["seed 0", "nothing that fits"]
    assert rows[1][3] == "0 %"


def test_every_neighbour_has_a_reason_and_the_tempting_come_first():
    result = full()
    rows = rows_of(report_html(result), "Why not its neighbours")
    assert sorted(row[0] for row in rows) == sorted(n.change for n in result.neighbours)
    kinds = [(row[2].startswith("+"), row[1].startswith("fits")) for row in rows]
    rank = {(True, False): 0, (False, True): 1, (False, False): 2}
    assert [rank[kind] for kind in kinds] == sorted(rank[kind] for kind in kinds)
    assert (True, False) in kinds
    for neighbour in result.neighbours:
        reason = next(row[1] for row in rows if row[0] == neighbour.change)
        assert all(v.sentence in reason for v in neighbour.candidate.violations)


def test_a_better_neighbour_that_fits_is_admitted():
    result = found()
    worse, better = result.runners_up[0], result.best
    assert "the search missed it" in words.why_lost(better, worse, "entropy")[0]
    assert "less entropy" in words.why_lost(worse, better, "entropy")[0]
    assert "same entropy" in words.why_lost(better, better, "entropy")[0]


def test_a_long_lineage_is_folded_and_ends_with_the_winner():
    result = full()
    oldest = result.lineage[0]
    long = result._replace(lineage=(oldest,) * 12 + result.lineage)
    for each, is_folded in ((long, True), (result._replace(lineage=result.lineage[-3:]), False)):
        page = report_html(each)
        assert (document(page).find(".//details") is not None) == is_folded
        rows = rows_of(page, "How it came to be")
        assert len(rows) == len(each.lineage)
        assert rows[-1][0] == describe(each.lineage[-1].architecture)


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_each_objective_is_called_by_its_own_name(objective):
    result = found(objective=objective)
    page = words_of(report_html(result))
    assert words.objective_words(objective).name in page
    assert ("nats" in page) == (objective == "entropy")


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "random"])
def test_the_winner_scores_what_the_search_says(objective):
    result = found(objective=objective)
    value = words.objective_of(result.best, objective)
    assert value == pytest.approx(max(run.best_total for run in result.seeds), rel=1e-9)


def test_a_result_without_seeds_lineage_front_or_proof_still_makes_a_page():
    bare = found(method="exact")._replace(seeds=(), lineage=(), certificate=None, runners_up=())
    assert [h.text for h in document(report_html(bare)).iter("h2")] == SECTIONS
    assert "settled by the proof" in words_of(report_html(bare))


def test_a_result_that_was_read_from_its_file_makes_the_same_page_without_the_time(tmp_path):
    full().save(str(tmp_path / "arch.json"))
    again = SearchResult.load(str(tmp_path / "arch.json"))
    assert report_html(again) == report_html(full().without_run())
    assert "s of it for the proof" in report_html(full())
    assert "s of it for the proof" not in report_html(again)


def test_same_result_same_bytes(tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        write_report(str(folder / "report.html"), full())
    for name in ("report.html", "trials.jsonl", "pareto.csv"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_the_data_lies_beside_the_page(tmp_path):
    result = full()
    page, trials, pareto = write_report(str(tmp_path / "a page.html"), result)
    assert sorted(os.listdir(tmp_path)) == ["a page.html", "pareto.csv", "trials.jsonl"]
    records = [json.loads(line) for line in text_of(trials).splitlines()]
    assert len(records) == len(result.trials) > 0
    for record, trial in zip(records, result.trials):
        assert record["arch_id"] == trial.candidate.architecture.arch_id
        assert record["number"] == trial.number
        assert record["total"] == trial.candidate.entropy.total
        assert set(CostReport._fields) <= set(record)
        assert len(record["violations"]) == len(trial.candidate.violations)
    block = result.trials[0].candidate.architecture.blocks[0]
    shape = [block.d_model, block.n_head, block.d_ff, block.depth]
    assert records[0]["blocks"][0] == shape
    rows = list(csv.DictReader(text_of(pareto).splitlines()))
    points = result.front.points
    assert [row["arch_id"] for row in rows] == [p.candidate.architecture.arch_id for p in points]
    assert [float(row["cost"]) for row in rows] == [p.candidate.cost.latency_ms for p in points]
    assert {row["axis"] for row in rows} == {"latency_ms"}
    assert len(rows_of(text_of(page), "The front")) == len(points)


def test_a_missed_limit_is_kept_with_the_trial(tmp_path):
    trial = full().trials[0]
    missing = next(n.candidate for n in full().neighbours if n.candidate.violations)
    result = full()._replace(trials=(trial._replace(candidate=missing),))
    _, trials, _ = write_report(str(tmp_path / "report.html"), result)
    record = json.loads(text_of(trials))
    assert set(record["violations"][0]) == {"quantity", "value", "limit", "unit"}


def test_without_a_front_the_table_has_its_header_only(tmp_path):
    *_, pareto = write_report(str(tmp_path / "report.html"), found())
    assert text_of(pareto).startswith("axis,limit,cost,total,gap,arch_id,")
    assert text_of(pareto).count("\n") == 1


@pytest.mark.parametrize("taken", ["report.html", "trials.jsonl", "pareto.csv"])
def test_a_report_that_cannot_be_written_leaves_nothing_behind(tmp_path, taken):
    (tmp_path / taken).mkdir()
    with pytest.raises(OSError, match="needs a file") as caught:
        write_report(str(tmp_path / "report.html"), found())
    assert caught.value.filename == str(tmp_path / taken)
    assert os.listdir(tmp_path) == [taken]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OSError, match="no such folder") as caught:
        write_report(str(tmp_path / "nowhere" / "report.html"), found())
    assert caught.value.filename == str(tmp_path / "nowhere")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (183_000.0, 296_000.0), (0.0931, 0.0942)])
def test_ticks_are_few_and_round(low, high):
    ticks = linear_ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    assert all(len(f"{tick:.6g}".replace(".", "").strip("0")) <= 4 for tick in ticks)
    assert log_ticks(512.0, 100_000.0) == [1e3, 1e4, 1e5]
    assert len(log_ticks(900.0, 1100.0)) >= 1
