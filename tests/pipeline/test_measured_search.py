"""A search that measures: corrections lead to what holds; only what was measured is called so."""

import json

import pytest

from merino_edge.cli.main import main
from merino_edge.core import space as spaces
from merino_edge.core import targets
from merino_edge.core.budget import Budget
from merino_edge.core.latency_fit import fit_table
from merino_edge.errors import BudgetError, UsageError
from merino_edge.formats.latency_table import DECODE, Workload, read_table
from merino_edge.pipeline.closest_row import closest_row, last_token
from merino_edge.pipeline.measured_search import (
    Bench,
    chosen,
    confirm,
    measured_power_w,
    table_latency,
)
from merino_edge.pipeline.predicted_table import roofline_ms
from merino_edge.pipeline.profile import ProfileOptions, profile
from merino_edge.runtime.beside import Timed
from merino_edge.search.config import SearchConfig
from merino_edge.search.run import run_search

SPACE = spaces.get("tiny").replace(max_seq_len=128)
MOCK = targets.get("mock-nano")
QUICK = SearchConfig(candidates=20_000, population=128, certify=False)
LIMIT_MS = 0.5


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("mock") / "t.json"
    options = ProfileOptions(SPACE, "mock-nano", None, "auto", 1, n_fit=24, n_held_out=8)
    profile(options, str(path))
    return read_table(str(path))


@pytest.fixture(scope="module")
def ask():
    budget = Budget(max_latency_ms=LIMIT_MS)
    return lambda model: run_search(SPACE, budget, QUICK, MOCK, latency=model)


class Device:
    """A device whose tokens take ``factor`` times what the roofline says, to half a percent."""

    provenance = "measured"

    def __init__(self, factor):
        self.factor, self.n_timed = factor, 0

    def __call__(self, architecture):
        self.n_timed += 1
        ms = self.factor * roofline_ms(architecture, Workload(DECODE, 120), MOCK)
        return Timed(ms, 0.005 * ms, ms, 9)


def test_a_predicted_table_says_so_and_is_foretold(table):
    assert table.provenance == "predicted"
    assert "nothing was measured" in table.conditions.warnings[0]
    assert table.validation[DECODE].mape < 0.02
    assert {len(row.samples_ms) for row in table.rows} == {1}


def test_a_right_table_confirms_at_once(table, ask):
    device = Device(1.0)
    found = confirm(ask, fit_table(table), LIMIT_MS, 4, device)
    assert chosen(found).passed
    assert device.n_timed <= 2


@pytest.mark.parametrize("factor", [0.7, 0.9, 1.15, 1.5])
def test_a_table_that_is_off_is_corrected_until_a_finalist_holds_with_little_unused(
    table, ask, factor
):
    found = confirm(ask, fit_table(table), LIMIT_MS, 8, Device(factor))
    held = chosen(found)
    assert held.measured.high_ms <= LIMIT_MS
    assert held.unused < 0.12
    assert len({each.result.best.architecture for each in found}) == len(found)


def test_where_none_holds_the_closest_is_named(table, ask):
    found = confirm(ask, fit_table(table), LIMIT_MS, 1, Device(3.0))
    with pytest.raises(BudgetError, match=r"none of 1 measured finalists kept 0\.500 ms"):
        chosen(found)


def test_a_mock_never_says_measured(table, ask):
    found = confirm(ask, fit_table(table), LIMIT_MS, 2, Bench(table, 128))
    assert "measured" not in chosen(found).sentence
    assert "a mock says" in chosen(found).sentence
    assert chosen(found).record()["provenance"] == "predicted"


def test_finalists_are_measured_only_where_the_table_was(table):
    elsewhere = table.device._replace(model="another board", cpu="another processor")
    with pytest.raises(UsageError, match="another board"):
        Bench(table.replace(provenance="measured", device=elsewhere), 128)


def test_a_table_of_another_target_or_a_shorter_context_is_refused(table):
    with pytest.raises(UsageError, match="measured for the target 'mock-nano', not for 'nano'"):
        table_latency(table, "t.json", targets.get("nano"), SPACE)
    with pytest.raises(UsageError, match="up to a context of 128, the search asks for 256"):
        table_latency(table, "t.json", MOCK, SPACE.replace(max_seq_len=256))


def test_what_is_timed_is_timed_beside_its_like(table):
    """A decoder of the table beside itself, at the length of its row."""
    load = last_token(table, 128)
    for name, architecture in table.architectures.items():
        row = closest_row(table, architecture, load)
        assert (row.architecture, row.workload) == (name, load.label)
    with_more_layers = architecture.replace(
        blocks=tuple(block._replace(depth=block.depth + 1) for block in architecture.blocks)
    )
    assert closest_row(table, with_more_layers, load).workload == load.label


def test_energy_is_of_the_power_that_was_measured(table):
    assert measured_power_w(table) is None
    assert table_latency(table, "t.json", MOCK, SPACE)[1].power_w == MOCK.power_w
    rows = [row._replace(energy_mj=3.5 * row.latency_ms.p50) for row in table.rows]
    assert measured_power_w(table.replace(rows=rows)) == pytest.approx(3.5)
    assert table_latency(table.replace(rows=rows), "", MOCK, SPACE)[1].power_w == pytest.approx(3.5)


def test_the_whole_loop_as_commands(tmp_path, capsys):
    table, arch = str(tmp_path / "t.json"), str(tmp_path / "a.json")
    small = ["--space", "tiny", "--context", "128"]
    words = ["profile", "--target", "mock-nano", *small, "--fit", "24", "--held-out", "8"]
    assert main([*words, "-o", table, "-q"]) == 0
    assert "predicted" in capsys.readouterr().out
    words = ["search", "--latency-table", table, *small, "--max-latency-ms", "0.5", "-q"]
    words += ["--candidates", "20000", "--confirm", "3", "-o", arch]
    words += ["--report", str(tmp_path / "r.html")]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["finalists"][0]["passed"]
    assert document["best"]["cost"]["latency_basis"] == "table"
    assert document["best"]["cost"]["latency_high_ms"] <= 0.5
    page = (tmp_path / "r-latency.html").read_text("utf-8")
    assert "a mock says" in page
    assert "The budget and the finalists" in page


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--confirm", "2"], 2, "--confirm needs --latency-table and --max-latency-ms"),
        (["--latency-table", "nowhere.json"], 8, "does not exist"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_error(tmp_path, capsys, words, code, message):
    assert main(["search", *words, "-o", str(tmp_path / "a.json")]) == code
    assert message in capsys.readouterr().err
