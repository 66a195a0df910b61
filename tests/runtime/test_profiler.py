"""The profiler on a machine made of a clock: what drifts cancels, what was timed is never lost."""

import json

import numpy as np
import pytest

from merino_edge.errors import FormatError, StoppedError, UsageError
from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.latency_table import Workload
from merino_edge.formats.probes import ProbeSet
from merino_edge.runtime import profiler
from merino_edge.runtime.profiler import Limits, measure, relative_half_interval, time_beside

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


class Machine:
    """A clock that sessions move on: a token of a decoder takes as many milliseconds as layers.

    Attributes:
        pace: What everything is multiplied with, by the time since it began.
        calls: Steps and prompts so far; ``interrupt_at`` of them raises KeyboardInterrupt.
    """

    def __init__(self):
        self.now_s, self.calls, self.interrupt_at = 0.0, 0, None
        self.pace = lambda now_s: 1.0

    def take(self, ms):
        self.calls += 1
        if self.calls == self.interrupt_at:
            raise KeyboardInterrupt
        self.now_s += 1e-3 * ms * self.pace(self.now_s)


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
        self._machine.take(0.5 * self._n_layers * len(ids))

    def step(self, token):
        self.position += 1
        assert self.position <= self.context_len
        self._machine.take(self._n_layers * (1.0 + self.position / 100.0))

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


def run(machine, folder, **limits):
    layers = {a.arch_id: a.n_layers for a in (SMALL, MIDDLE, LARGE)}

    def opener(path):
        return Session(machine, layers[path.rpartition("/")[2]])

    return measure(PROBES, "probes", str(folder), opener, 1, Limits(**limits))


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
    kept = (tmp_path / profiler.JOURNAL).read_bytes()
    table = run(machine, tmp_path)
    assert (tmp_path / profiler.JOURNAL).read_bytes().startswith(kept)
    assert len(table.rows) == 12


def test_a_line_that_a_power_cut_left_half_written_is_dropped(machine, tmp_path):
    whole = medians(run(machine, tmp_path))
    journal = tmp_path / profiler.JOURNAL
    journal.write_bytes(journal.read_bytes()[:-40])
    assert medians(run(machine, tmp_path)) == pytest.approx(whole)


def test_a_damaged_line_is_named(machine, tmp_path):
    run(machine, tmp_path)
    journal = tmp_path / profiler.JOURNAL
    lines = journal.read_text().splitlines()
    lines[2] = lines[2].replace('"round"', '"rund"')
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(FormatError, match="line 3"):
        run(machine, tmp_path)


@pytest.mark.parametrize("what", ["probes", "setting", "device"])
def test_a_journal_of_another_measurement_is_not_taken_up(machine, tmp_path, what):
    run(machine, tmp_path)
    journal = tmp_path / profiler.JOURNAL
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
    layers = {"anchor": 2, "finalist": 4}
    timed = time_beside(
        "finalist",
        "anchor",
        table,
        Workload("decode", 64),
        lambda path: Session(machine, layers[path]),
    )
    assert timed.ms == pytest.approx(4 * 1.645, rel=0.02)
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
