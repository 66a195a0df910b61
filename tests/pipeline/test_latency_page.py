"""The page of a latency table: it holds all rows, draws the stated interval, names what is so."""

import json
import math
import re
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from latency_tables import PRICES_MS, law_ms, table_by
from page_reader import assert_stands_alone, document, section_of, tables_of, words_in

from merino_edge.cli.main import main
from merino_edge.core import space as spaces
from merino_edge.core import targets
from merino_edge.core.budget import Budget
from merino_edge.core.latency import layer_part
from merino_edge.core.latency_check import validate
from merino_edge.core.latency_work import WORK, stored_in
from merino_edge.formats.architecture import describe
from merino_edge.formats.latency_table import DECODE, HELD_OUT, PREDICTED, Workload, write_table
from merino_edge.formats.measurement import Conditions
from merino_edge.pipeline.confirmed import Confirmed
from merino_edge.pipeline.heat_map import decimals
from merino_edge.pipeline.latency_maps import thinned
from merino_edge.pipeline.latency_page import latency_html, write_latency_page
from merino_edge.pipeline.latency_view import half_interval_ms, ms_words, signed, view_of
from merino_edge.pipeline.predicted_table import roofline_ms
from merino_edge.runtime.beside import Timed
from merino_edge.search.config import SearchConfig
from merino_edge.search.run import run_search

MOCK = targets.get("mock-nano")
SECTIONS = [
    "Prediction against measurement",
    "How far to trust it",
    "What one layer takes, predicted",
    "What costs what",
    "Conditions",
    "The rows",
]


def law(a, load):
    return roofline_ms(a, load, MOCK)


@cache
def measured():
    table = table_by(law, noise=0.02)
    return table.replace(validation=validate(table))


@cache
def view():
    return view_of(measured())


@cache
def searched():
    config = SearchConfig(candidates=5_000, population=64, certify=False)
    space = spaces.get("tiny").replace(max_seq_len=128)
    return run_search(space, Budget(max_latency_ms=0.5), config, MOCK)


def finalist(measured_ms, provenance="measured"):
    timed = Timed(measured_ms, 0.002, measured_ms, 9)
    return Confirmed(searched(), 0.5, 0.48, 0.49, timed, provenance)


def plots_of(page):
    return [svg for svg in document(page).iter("svg") if svg.get("class") == "plot"]


def test_the_page_refers_to_nothing_outside_itself():
    assert_stands_alone(latency_html(view_of(measured(), 0.5, [finalist(0.47)])))


def test_the_sections_come_in_order_and_every_picture_has_a_title():
    root = document(latency_html(view()))
    assert [heading.text for heading in root.iter("h2")] == SECTIONS
    pictures = [svg for svg in root.iter("svg") if svg.get("role")]
    assert len(pictures) >= 4 + 2 + 10  # plots, maps, bars
    assert all(picture.find("title").text for picture in pictures)


def test_it_says_at_once_what_was_measured_and_where():
    page = latency_html(view())
    verdict = next(p for p in document(page).iter("p") if p.get("class") == "verdict")
    assert words_in(verdict).startswith(f"Measured on {measured().device.model}: 128 rows of 32")
    facts = dict(zip(*[[words_in(e) for e in document(page).iter(name)] for name in ("dt", "dd")]))
    assert facts["precision"].startswith("int4")
    assert facts["decoders"].startswith("32: 24 to fit the model to, 8 held out")
    assert facts["rows"] == "128, 5 rounds each"
    assert facts["clocks locked"] == "not told by the system"


def test_every_row_is_in_the_page():
    (rows,) = tables_of(latency_html(view()), "The rows")
    assert len(rows) == len(measured().rows)
    for shown, row in zip(rows, measured().rows):
        architecture = measured().architectures[row.architecture]
        assert shown[0] == f"{describe(architecture)}{row.architecture}"
        assert shown[2] == row.workload
        assert shown[3] == ms_words(row.latency_ms.p50, half_interval_ms(row))
        assert shown[4:] == ["5", ""]


def test_every_row_is_a_dot_that_says_what_it_is_and_held_out_ones_are_filled():
    decode = plots_of(latency_html(view()))[0]
    dots = list(decode.iter("circle"))
    filled = [dot for dot in dots if dot.get("class") == "fill-c0"]
    held_out = measured().rows_of(HELD_OUT, DECODE)
    assert len(dots) == sum(row.workload.startswith(DECODE) for row in measured().rows)
    assert len(filled) == len(held_out)
    for dot, row in zip(filled, held_out):
        words = dot.find("title").text
        assert describe(measured().architectures[row.architecture]) in words
        assert f"measured {ms_words(row.latency_ms.p50)}, predicted by the model" in words


@pytest.mark.parametrize("index", [0, 1], ids=["decode", "prefill"])
def test_the_band_is_the_stated_interval(index):
    fit = view().fits[index]
    scatter, errors = plots_of(latency_html(view()))[2 * index : 2 * index + 2]
    dots = [(_percent(dot, "cx"), _percent(dot, "cy")) for dot in scatter.iter("circle")]
    rows = [r for role in ("fit", HELD_OUT) for r in measured().rows_of(role, fit.phase)]
    places = sorted((row.latency_ms.p50, x) for row, (x, _) in zip(rows, dots))
    (ms1, x1), (ms2, x2) = places[0], places[-1]
    per_factor = (x2 - x1) / math.log(ms2 / ms1)
    corners = _corners(scatter)
    assert corners[1][0] == 0.0  # at the left edge, so far above the corner:
    assert 100.0 - corners[1][1] == pytest.approx(per_factor * math.log(fit.spread), rel=1e-2)
    for row, foretold, (x, y) in zip(rows, _foretold(fit, rows), dots):
        is_above = 100.0 - y - x > 100.0 - corners[1][1]
        assert is_above == (foretold / row.latency_ms.p50 > fit.spread)
    heights = sorted({y for _, y in _corners(errors)})
    middle = next(e for e in errors.findall("line") if e.get("class") == "frame")
    zero = _percent(middle, "y1")
    above, below = fit.spread - 1.0, 1.0 - 1.0 / fit.spread
    assert (zero - heights[0]) / (heights[1] - zero) == pytest.approx(above / below, rel=1e-2)


def _foretold(fit, rows):
    table = measured()
    lengths = [Workload.of_label(row.workload).length for row in rows]
    return [fit.ms(table.architectures[row.architecture], n) for row, n in zip(rows, lengths)]


def _percent(element, name):
    return float(element.get(name).rstrip("%"))


def _corners(plot):
    """In percent of the plot."""
    (band,) = [p for p in plot.iter("polygon") if "band" in p.get("class")]
    pairs = [pair.split(",") for pair in band.get("points").split()]
    return [(float(x) / 10.0, float(y) / 10.0) for x, y in pairs]


def test_the_validation_is_the_tables_and_simple_predictors_stand_beside_it():
    judgements, *beside = tables_of(latency_html(view()), "How far to trust it")
    assert [row[0] for row in judgements] == ["decode", "prefill"]
    for row, bars, judged in zip(judgements, beside, measured().validation.values()):
        assert row[1:3] == ["8", "16"]
        assert row[3] == f"{100 * judged.mape:.1f} %"
        assert row[7] == f"{judged.kendall_tau:.3f}"
        assert row[8] == f"{100 * judged.coverage:.1f} %stated 90 %"
        assert row[9] == signed(judged.bias)
        assert [bar[0] for bar in bars] == ["this table’s model", *judged.others]


def test_a_cell_of_a_map_is_the_price_of_its_layer():
    fit = view().fits[0]
    maps = [s for s in document(latency_html(view())).iter("svg") if s.get("class") == "heat"]
    first = next(group for group in maps[0].iter("g") if "a guess" not in group.find("title").text)
    words = first.find("title").text
    width, heads, d_ff = (int(n) for n in re.findall(r"(\d+)(?: heads)?[,:]", words))
    template = measured().architectures[measured().anchor]
    block = template.blocks[0]._replace(d_model=width, n_head=heads, n_kv_head=heads, d_ff=d_ff)
    part = layer_part(template.replace(blocks=(block,)), 0, 1, 120, again=False)
    assert f"predicted {ms_words(fit.part_ms(part))}" in words
    value = float(first.find("text").text)
    assert any(value == pytest.approx(f * fit.part_ms(part), rel=0.1) for f in (1.0, 1000.0))


def test_proportions_that_nobody_timed_are_guesses_without_colour():
    ratios = [b.ffn_ratio for a in measured().architectures.values() for b in a.blocks]
    for group in document(latency_html(view())).iter("g"):
        sizes = re.match(r"width (\d+), \d+ heads, feed-forward (\d+)", group.find("title").text)
        ratio = int(sizes.group(2)) / int(sizes.group(1))
        is_guess = not 0.99 * min(ratios) <= ratio <= 1.01 * max(ratios)
        assert ("a guess" in group.find("title").text) == is_guess
        assert (group.find("rect").get("fill-opacity") == "0") == is_guess


def test_a_map_shows_the_sizes_of_a_space_that_is_given():
    space = spaces.get("tiny").replace(max_seq_len=128)
    page = latency_html(view_of(measured(), space=space))
    text = words_in(section_of(page, "What one layer takes, predicted"))
    assert f"Sizes are those of the space '{space.name}'" in text
    assert all(str(width) in text for width in space.d_models)


def test_every_kind_of_work_has_its_price_and_what_it_makes_of_the_anchor():
    (rows,) = tables_of(latency_html(view()), "What costs what")
    assert [row[0] for row in rows] == [*WORK, "spill"]
    for column in (3, 5):
        shares = [float(row[column].rstrip(" %")) for row in rows if row[column]]
        assert sum(shares) == pytest.approx(100.0, abs=0.5)


def test_what_the_caches_are_thought_to_hold_is_said_in_words():
    stored = stored_in("int4")
    dear = PRICES_MS * np.where(np.array(WORK) == "weights first", 50.0, 1.0)
    known = view_of(
        table_by(lambda a, load: law_ms(a, load, stored, 60_000, 0.8, 0.3, prices=dear))
    )
    text = words_in(section_of(latency_html(known), "What costs what"))
    fit = known.fits[0]
    assert fit.cached_weights
    assert f"at most {fit.cached_weights:,} weights" in text
    assert f"{fit.capacity_mb:.3g} MB come from a cache" in text
    assert "not read from the machine" in text
    plain = words_in(section_of(latency_html(view()), "What costs what"))
    assert ("No block is held to stay" in plain) == any(not f.cached_weights for f in view().fits)


@pytest.mark.parametrize(("ms", "verdict"), [(0.47, "PASS"), (0.499, "FAIL"), (0.6, "FAIL")])
def test_a_finalist_stands_with_its_budget_and_its_verdict(ms, verdict):
    page = latency_html(view_of(measured(), finalists=[finalist(ms)]))
    ((row,),) = tables_of(page, "The budget and the finalists")
    assert row[1] == verdict
    assert row[2:5] == ["0.5 ms", "0.4800 ± 0.0100 ms", f"{ms:.4f} ± 0.0020 ms"]
    decode, *others = plots_of(page)
    assert len([line for line in decode.findall("line") if line.get("class") == "bound"]) == 2
    (cross,) = decode.iter("g")
    title = cross.find("svg").find("path").find("title").text
    assert verdict in title
    assert "measured" in title
    assert not any(list(plot.iter("g")) for plot in others)


def test_a_budget_alone_is_drawn_and_one_out_of_reach_is_called_so():
    text = words_in(document(latency_html(view_of(measured(), limit_ms=500.0))))
    assert "No finalist was built and timed" in text
    assert "outside what the table was fitted to" in text
    assert "The budget" not in words_in(document(latency_html(view())))


def test_a_predicted_table_says_so_and_measured_is_said_of_nothing():
    table = table_by(law, provenance=PREDICTED)
    table = table.replace(
        validation=validate(table),
        rows=[row._replace(samples_ms=row.samples_ms[:1], raw_ms=row.raw_ms[:1], rounds=[0])
              for row in table.rows],
    )  # fmt: skip
    page = latency_html(view_of(table, finalists=[finalist(0.47, PREDICTED)]))
    text = words_in(document(page).find("body"))
    assert text.partition("Predicted: no device was asked")[0].count("measured") == 0
    assert set(re.findall(r"\w+ \w+ measured\b", text)) == {"page was measured"}
    assert "a mock says" in text
    (rows,) = tables_of(page, "The rows")
    assert not any("±" in row[3] for row in rows)


def test_conditions_warnings_and_throttled_rows_are_told():
    rows = measured().rows
    throttled = rows[0]._replace(throttled=True)
    found = Conditions(
        load_before=0.2, load_after=1.0, others_cpu_share=0.15, temp_c_start=41.0, temp_c_end=63.5,
        clocks_locked=False, throttled=True, warnings=["others were <busy>."],
    )  # fmt: skip
    table = measured().replace(rows=[throttled, *rows[1:]], conditions=found)
    page = latency_html(view_of(table))
    text = words_in(section_of(page, "Conditions"))
    assert "15.0 % of the CPU" in text
    assert "41 °C, then 63.5 °C" in text
    assert "others were <busy>." in text
    assert "1 taken while the device throttled" in words_in(document(page))
    assert tables_of(page, "The rows")[0][0][5] == "throttled"
    n_dots = sum(len(list(plot.iter("circle"))) for plot in plots_of(page)[::2])
    assert n_dots == len(rows) - 1


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "a\"b'c&amp;", "\x00\x1b]0;"])
def test_names_from_files_cannot_become_markup(hostile):
    table = measured().replace(
        space=hostile,
        made_by=hostile,
        device=measured().device._replace(model=hostile, os=hostile),
        setting=measured().setting._replace(engine=hostile, power_mode=hostile),
    )
    page = latency_html(view_of(table))
    assert "<script" not in page
    assert [child.tag for child in document(page)] == ["head", "body"]
    shown = hostile.translate({0: "\ufffd", 27: "\ufffd"})
    assert shown in "".join(document(page).itertext())


def test_too_few_decoders_make_a_page_without_a_model():
    few = sorted(measured().architectures)[:5]
    table = measured().replace(
        architectures={name: measured().architectures[name] for name in few},
        roles={name: measured().roles[name] for name in few},
        rows=[row for row in measured().rows if row.architecture in few],
        anchor=few[0],
        validation={},
    )
    page = latency_html(view_of(table))
    assert [heading.text for heading in document(page).iter("h2")] == SECTIONS
    assert "No model could be fitted" in words_in(document(page))
    assert len(tables_of(page, "The rows")[0]) == 20


def test_same_table_same_bytes_and_nothing_half_written(tmp_path):
    for name in ("a.html", "b.html"):
        write_latency_page(str(tmp_path / name), measured())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    with pytest.raises(OSError, match="No such file"):
        write_latency_page(str(tmp_path / "nowhere" / "a.html"), measured())


def test_a_page_needs_no_torch():
    code = "import sys, merino_edge.pipeline.latency_page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_table_that_is_there_is_shown_and_judged_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_table("t.json", measured().replace(validation={}))
    before = (tmp_path / "t.json").read_bytes()
    assert main(["profile", "--show", "t.json", "--report", "t.html"]) == 0
    assert "not fitted, foretold and then measured" in capsys.readouterr().out
    assert (tmp_path / "t.html").read_text("utf-8") == latency_html(view())
    assert (tmp_path / "t.json").read_bytes() == before
    assert main(["profile", "--show", "t.json", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["validation"]["decode"]["mape"] == measured().validation[DECODE].mape


def test_a_page_that_is_there_is_not_replaced_and_show_does_nothing_else(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_table("t.json", measured())
    (tmp_path / "t.html").write_text("mine", "utf-8")
    assert main(["profile", "--show", "t.json", "--report", "t.html"]) == 2
    assert "'t.html' exists" in capsys.readouterr().err
    assert main(["profile", "--show", "t.json", "--merge", "t.json"]) == 2
    assert "--show reads one table" in capsys.readouterr().err
    before = (tmp_path / "t.json").read_bytes()
    assert main(["profile", "--show", "t.json", "--report", "./t.json", "--force"]) == 2
    assert "'t.json' is the table" in capsys.readouterr().err
    assert (tmp_path / "t.json").read_bytes() == before
    assert (tmp_path / "t.html").read_text("utf-8") == "mine"


def test_a_board_is_told_that_the_page_is_the_workstations(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("merino_edge.cli.machine.HOST_PYTHON", (9, 9))
    assert main(["profile", "probes", "--report", "t.html", "-o", "nano.json"]) == 2
    error = capsys.readouterr().err
    assert "--report belongs to the workstation" in error
    assert "merino-edge profile --show nano.json --report t.html" in error


def test_a_profile_writes_its_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["profile", "--target", "mock-nano", "--space", "tiny", "--context", "128", "-q"]
    assert main([*asked, "--fit", "24", "--held-out", "8", "--report", "t.html"]) == 0
    page = (tmp_path / "t.html").read_text("utf-8")
    assert "Predicted: no device was asked" in page
    assert "How far to trust it" in page


def test_values_are_written_for_people():
    assert ms_words(0.48321) == "0.4832 ms"
    assert ms_words(0.48321, 0.0123) == "0.4832 ± 0.0123 ms"
    assert ms_words(12.3456, 0.1) == "12.35 ± 0.10 ms"
    assert [signed(each) for each in (0.012, -0.034, -1e-6)] == ["+1.2 %", "−3.4 %", "0.0 %"]
    assert [decimals(each) for each in (5.92, 0.222, 41.7, 4170.0)] == [2, 3, 1, 0]
    assert thinned([1, 2, 3, 4, 5, 6, 7], 3) == [1, 4, 7]
    assert thinned([1, 2], 3) == [1, 2]
