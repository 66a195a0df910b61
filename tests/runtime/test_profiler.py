"""The profiler on a machine made of a clock: what drifts cancels, what was timed is never lost."""

import json
import os

import numpy as np
import pytest
from board_files import NANO_HEAT, NANO_INPUT, NANO_RAILS
from doubles import write_tree

from merino_edge.errors import FormatError, StoppedError, UsageError
from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.latency_table import Workload
from merino_edge.formats.probes import ProbeSet
from merino_edge.runtime import profiler
from merino_edge.runtime.beside import time_beside
from merino_edge.runtime.profile_journal import JOURNAL
from merino_edge.runtime.profiler import Limits, measure, relative_half_interval
from merino_edge.runtime.rails import sysfs_source
from merino_edge.runtime.telemetry import RATE_HZ, Sampler, Telemetry

SMALL, MIDDLE, LARGE = (
    Architecture(blocks=(BlockSpec(16, 2, 2, 32, depth),), vocab_size=300, max_seq_len=96)
    for depth in (1, 2, 4)
)
PROBES = ProbeSet(
    space="three",
    seed=5,
    target="host",
    precision="int4",
    context_len=96,
    lengths=[32, 64],
    anchor=MIDDLE.arch_id,
    architectures={a.arch_id: a for a in (SMALL, MIDDLE, LARGE)},
    roles={SMALL.arch_id: "fit", MIDDLE.arch_id: "fit", LARGE.arch_id: "held_out"},
)


IDLE_W, TOKEN_W, PROMPT_W = 1.25, 4.5, 9.0


class Machine:
    """A clock that sessions move on: a token of a decoder takes as many milliseconds as layers.

    Attributes:
        pace: What everything is multiplied with, by the time since it began.
        calls: Steps and prompts so far; ``interrupt_at`` of them raises KeyboardInterrupt.
        on_move: Is told how many watts are taken, from when to when.
    """

    def __init__(self):
        self.now_s, self.calls, self.interrupt_at = 0.0, 0, None
        self.pace = lambda now_s: 1.0
        self.on_move = lambda watts, from_s, to_s: None

    def take(self, ms, watts):
        self.calls += 1
        if self.calls == self.interrupt_at:
            raise KeyboardInterrupt
        self.wait(1e-3 * ms * self.pace(self.now_s), watts)

    def wait(self, seconds, watts):
        from_s, to_s = self.now_s, self.now_s + seconds
        self.on_move(watts, from_s, to_s)
        self.now_s = to_s


class Session:
    """What the profiler needs of a session."""

    name, description, vocab_size, context_len = "native", "a clock", 300, 96

    def __init__(self, machine, n_layers):
        self._machine, self._n_layers, self.position = machine, n_layers, 0
        self.backend = self

    def reset(self):
        self.position = 0

    def prefill(self, ids):
        self.position += len(ids)
        self._machine.take(0.5 * self._n_layers * len(ids), PROMPT_W)

    def step(self, token):
        self.position += 1
        assert self.position <= self.context_len
        self._machine.take(self._n_layers * (1.0 + self.position / 100.0), TOKEN_W)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    close = reset


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    monkeypatch.setattr(profiler.time, "perf_counter", lambda: machine.now_s)
    monkeypatch.setattr(Bundle, "open", classmethod(lambda cls, path: path))
    return machine


def run(machine, folder, telemetry=None, **limits):
    layers = {a.arch_id: a.n_layers for a in (SMALL, MIDDLE, LARGE)}

    def opener(path):
        return Session(machine, layers[path.rpartition("/")[2]])

    return measure(PROBES, "probes", str(folder), opener, 1, Limits(**limits), telemetry=telemetry)


def medians(table):
    return {(r.architecture, r.workload): r.latency_ms.p50 for r in table.rows}


def test_every_probe_has_a_row_for_each_workload(machine, tmp_path):
    table = run(machine, tmp_path)
    labels = {"decode@32", "decode@64", "prefill@24", "prefill@56"}
    assert {(r.architecture, r.workload) for r in table.rows} == {
        (name, label) for name in PROBES.architectures for label in labels
    }
    assert medians(table)[LARGE.arch_id, "prefill@56"] == pytest.approx(0.5 * 4 * 56)
    assert medians(table)[LARGE.arch_id, "decode@32"] == pytest.approx(4 * 1.325, rel=0.01)


def test_what_is_known_well_enough_is_not_timed_again(machine, tmp_path):
    table = run(machine, tmp_path, max_rounds=30)
    assert {len(row.rounds) for row in table.rows} == {profiler.FEWEST_ROUNDS}


def test_a_machine_that_slows_down_changes_no_sample(machine, tmp_path):
    steady = run(machine, tmp_path / "a", max_rounds=12, tight=0.0)
    machine.now_s = 0.0
    machine.pace = lambda now_s: 1.0 + 0.5 * np.sin(now_s / 4.0)
    table = run(machine, tmp_path / "b", max_rounds=12, tight=0.0)
    raw_spread = max(max(row.raw_ms) / min(row.raw_ms) for row in table.rows)
    assert raw_spread > 1.5
    for key, ms in medians(table).items():
        phase = Workload.of_label(key[1]).phase
        expected = medians(steady)[key] / steady.anchor_ms[phase]
        assert ms / table.anchor_ms[phase] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("at", [150, 400, 777])
def test_interrupted_it_goes_on_and_ends_with_the_same_rows(machine, tmp_path, at):
    machine.interrupt_at = at
    with pytest.raises(StoppedError, match="kept in"):
        run(machine, tmp_path)
    kept = (tmp_path / JOURNAL).read_bytes()
    table = run(machine, tmp_path)
    assert (tmp_path / JOURNAL).read_bytes().startswith(kept)
    assert len(table.rows) == 12


def test_a_line_that_a_power_cut_left_half_written_is_dropped(machine, tmp_path):
    whole = medians(run(machine, tmp_path))
    journal = tmp_path / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-40])
    assert medians(run(machine, tmp_path)) == pytest.approx(whole)


def test_a_damaged_line_is_named(machine, tmp_path):
    run(machine, tmp_path)
    journal = tmp_path / JOURNAL
    lines = journal.read_text().splitlines()
    lines[2] = lines[2].replace('"round"', '"rund"')
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(FormatError, match="line 3"):
        run(machine, tmp_path)


@pytest.mark.parametrize("what", ["probes", "setting", "device"])
def test_a_journal_of_another_measurement_is_not_taken_up(machine, tmp_path, what):
    run(machine, tmp_path)
    journal = tmp_path / JOURNAL
    first, _, rest = journal.read_text().partition("\n")
    header = json.loads(first)
    change = {"probes": "seed", "setting": "threads", "device": "model"}[what]
    header[what][change] = "other" if change == "model" else 77
    journal.write_text(json.dumps(header) + "\n" + rest)
    with pytest.raises(UsageError, match=what):
        run(machine, tmp_path)


def test_time_ends_it_but_not_before_the_fewest_rounds(machine, tmp_path):
    machine.pace = lambda now_s: 1.0 + 0.3 * ((now_s * 7.3) % 1.0)
    table = run(machine, tmp_path, max_s=0.01, tight=0.0)
    assert {len(row.rounds) for row in table.rows} == {profiler.FEWEST_ROUNDS}


def test_a_finalist_is_timed_at_the_tables_speed(machine, tmp_path):
    table = run(machine, tmp_path)
    machine.pace = lambda now_s: 1.4
    layers = {"beside": 2, "finalist": 4}
    for name in layers:
        (tmp_path / name).mkdir()
    (row,) = [
        row
        for row in table.rows
        if (row.architecture, row.workload) == (MIDDLE.arch_id, "decode@64")
    ]
    timed = time_beside(
        str(tmp_path / "finalist"),
        str(tmp_path / "beside"),
        row,
        64,
        table.seed,
        lambda path: Session(machine, layers[path.rpartition("/")[2]]),
    )
    assert timed.ms == pytest.approx(2.0 * row.latency_ms.p50, rel=0.02)
    assert timed.raw_ms == pytest.approx(1.4 * timed.ms, rel=0.02)
    assert timed.high_ms == timed.ms + timed.half_ms


def test_the_interval_of_a_median_is_about_as_wide_as_medians_differ():
    rng = np.random.RandomState(0)
    halves, medians_seen = [], []
    for _ in range(400):
        samples = np.exp(0.1 * rng.standard_normal(15))
        halves.append(relative_half_interval(samples.tolist()))
        medians_seen.append(np.median(samples))
    assert np.mean(np.abs(np.log(medians_seen)) <= np.median(halves)) == pytest.approx(
        0.95, abs=0.04
    )


class Board:
    """A Nano's files, kept up to date by the machine's clock.

    Attributes:
        events: From which second on which files change; None takes a file away.
    """

    def __init__(self, machine, root, monkeypatch):
        self._machine, self._sampler, self.events = machine, None, []
        self.root = write_tree(root, {**NANO_RAILS, **NANO_HEAT})
        self.telemetry = Telemetry(sysfs_source(self.root), self.root, self._sampler_of)
        machine.on_move = self._move
        monkeypatch.setattr(profiler.time, "sleep", lambda s: machine.wait(s, IDLE_W))

    def _sampler_of(self, read_w):
        board = self

        class Driven(Sampler):
            """Looks when the machine's clock says so, and not in a thread of its own."""

            def start(self):
                board._sampler = self

            def stop(self):
                board._sampler = None

        return Driven(read_w)

    def _move(self, watts, from_s, to_s):
        for look in range(int(from_s * RATE_HZ) + 1, int(to_s * RATE_HZ) + 1):
            self._machine.now_s = look / RATE_HZ
            self._happen()
            if self._sampler is not None:
                self._show(watts)
                self._sampler.look()

    def _show(self, watts):
        path = os.path.join(self.root, NANO_INPUT.lstrip("/"))
        if os.path.exists(path):
            write_tree(self.root, {NANO_INPUT: f"{1000 * watts:.0f}\n"})

    def _happen(self):
        while self.events and self.events[0][0] <= self._machine.now_s:
            _, path, text = self.events.pop(0)
            if text is None:
                os.remove(os.path.join(self.root, path.lstrip("/")))
            else:
                write_tree(self.root, {path: text})


@pytest.fixture
def board(machine, tmp_path, monkeypatch):
    return Board(machine, tmp_path / "board", monkeypatch)


def test_a_call_costs_the_power_of_its_own_kind_times_its_time(machine, board, tmp_path):
    table = run(machine, tmp_path / "journal", board.telemetry)
    for row in table.rows:
        watts = PROMPT_W if row.workload.startswith("prefill") else TOKEN_W
        assert row.energy_mj == pytest.approx(watts * row.latency_ms.p50, rel=0.01)
    assert not any(row.throttled for row in table.rows)
    assert table.conditions.throttled is False
    lines = (tmp_path / "journal" / JOURNAL).read_text().splitlines()[1:]
    assert [json.loads(line)["idle_w"] for line in lines] == pytest.approx([IDLE_W] * len(lines))


def test_the_smallest_are_repeated_until_the_rail_has_seen_them(machine, board, tmp_path):
    machine.pace = lambda now_s: 0.05
    table = run(machine, tmp_path / "journal", board.telemetry)
    assert max(row.latency_ms.p50 for row in table.rows) < 10.0
    assert None not in {row.energy_mj for row in table.rows}


def test_a_board_without_rails_is_timed_as_ever(machine, board, tmp_path):
    plain = run(machine, tmp_path / "a", Telemetry(None, str(tmp_path / "nothing")))
    now_s, machine.now_s = machine.now_s, 0.0
    with_power = run(machine, tmp_path / "b", board.telemetry)
    assert {row.energy_mj for row in plain.rows} == {None}
    assert plain.conditions.throttled is None
    assert machine.now_s > now_s  # energy takes time: only where it is measured
    assert medians(plain) == pytest.approx(medians(with_power), rel=1e-6)


@pytest.mark.parametrize("seconds", [0.7, 1.1])
def test_rows_that_were_taken_while_the_board_throttles_are_marked(
    machine, board, tmp_path, seconds
):
    state = "/sys/class/thermal/cooling_device1/cur_state"
    board.events = [(6.0, state, "2\n"), (6.0 + seconds, state, "0\n")]
    table = run(machine, tmp_path / "journal", board.telemetry)
    marked = {row.architecture for row in table.rows if row.throttled}
    assert 1 <= len(marked) <= 2  # the probe that was being timed, not all
    assert table.conditions.throttled is True
    assert any("throttled in" in text for text in table.conditions.warnings)


def test_a_rail_that_vanishes_takes_the_energy_with_it_and_nothing_else(machine, board, tmp_path):
    board.events = [(2.5, NANO_INPUT, None)]  # idle was 2 s
    table = run(machine, tmp_path / "journal", board.telemetry)
    assert len(table.rows) == 12
    assert None in {row.energy_mj for row in table.rows}
    assert any(text.startswith("POM_5V_IN gave no value") for text in table.conditions.warnings)
