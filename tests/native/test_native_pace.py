"""Who runs a step, the team or one thread: the state machine, fed with durations."""

import ctypes as c
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

TEAM, ALONE, LOADED, JAMMED = 2.7, 4.5, 14.0, 55.0  # ms a step, as seen; see pace.c


class Pace:
    """One state machine, and what it decided."""

    def __init__(self, library):
        self.library = library
        self.pace = c.create_string_buffer(256)  # more than sizeof(me_pace); zeros are a new one
        self.alone = []  # whether each step was one thread's
        self.spent_ms = []

    def run(self, n_steps, team_ms, alone_ms):
        """Feeds n_steps; a duration is a number, or a function of the step."""
        self.library.me_pace_note.argtypes = [c.c_void_p, c.c_uint64]
        for step in range(n_steps):
            alone = self.library.me_pace_alone(self.pace)
            each = alone_ms if alone else team_ms
            duration_ms = each(step) if callable(each) else each
            self.library.me_pace_note(self.pace, int(duration_ms * 1e6))
            self.alone.append(bool(alone))
            self.spent_ms.append(duration_ms)
        return self


@pytest.fixture
def pace(library):
    return Pace(library)


def noisy(ms, seed, share=0.05):
    rng = random.Random(seed)
    return lambda step: ms * (1 + share * rng.random())


def test_a_quiet_machine_has_one_trial_of_one_step(pace):
    pace.run(3000, noisy(TEAM, 1), noisy(ALONE, 2))
    assert sum(pace.alone) == 1


def test_a_hiccup_now_and_then_is_no_load(pace):
    pace.run(3000, lambda step: JAMMED if step % 97 == 50 else TEAM, ALONE)
    assert sum(pace.alone) == 1


def test_a_text_that_grows_needs_few_trials(pace):
    pace.run(8000, lambda step: TEAM * (1 + step / 500), lambda step: ALONE * (1 + step / 500))
    assert sum(pace.alone) < 10  # 17 times the duration: log 17 / log 1.5 = 7


@pytest.mark.parametrize("loaded_ms", [LOADED, JAMMED])
@pytest.mark.parametrize("n_before", [0, 500])
def test_under_load_one_thread_runs_and_afterwards_the_team(pace, n_before, loaded_ms):
    pace.run(n_before, TEAM, ALONE)
    pace.run(40, loaded_ms, ALONE).run(1500, loaded_ms, ALONE)
    loaded_all_ms = sum(pace.spent_ms[n_before + 40 :])
    assert sum(pace.alone[n_before : n_before + 40]) >= 24  # a window or two until it is seen
    assert loaded_all_ms < 1.1 * 1500 * ALONE
    pace.run(300, TEAM, ALONE)
    pace.run(1000, TEAM, ALONE)
    assert not any(pace.alone[-1000:])


@pytest.mark.parametrize("alone_ms", [3.0, 3.5, ALONE])
def test_a_light_load_and_a_short_one_are_seen_and_forgotten_soon(pace, alone_ms):
    pace.run(100, TEAM, alone_ms).run(60, 1.8 * TEAM, alone_ms).run(60, TEAM, alone_ms)
    assert sum(pace.alone[100:160]) >= 30
    assert sum(pace.alone[190:]) <= 1


def test_trouble_after_trouble_is_seen_at_once(pace):
    """Three times the text grows at a stroke, and trials are lost; then comes a load."""
    for growth in 1, 2, 4, 8:
        pace.run(25, growth * TEAM, growth * ALONE)
    pace.run(40, 8 * LOADED, 8 * ALONE)
    assert sum(pace.alone[-40:]) >= 24


def test_what_was_usual_under_one_load_is_not_under_the_next(pace):
    pace.run(100, 7.5, 10.4).run(100, TEAM, ALONE).run(100, 10.0, ALONE)
    assert sum(pace.alone[:200]) < 5
    assert sum(pace.alone[200:]) > 60
    pace.run(100, TEAM, 0.9 * ALONE)
    assert not any(pace.alone[-50:])


def test_a_load_that_a_team_bears_better_is_left_to_the_team(pace):
    pace.run(100, TEAM, ALONE).run(2000, 7.5, 10.4)
    assert sum(pace.spent_ms[100:]) < 1.02 * 2000 * 7.5


def test_a_model_too_small_for_a_team_runs_alone(pace):
    pace.run(2000, 0.030, 0.008)
    assert sum(pace.alone) > 0.98 * 2000


def test_a_team_that_wins_by_luck_is_not_kept(pace):
    """Under a load, the team's trial meets eight quiet steps."""
    pace.run(100, LOADED, ALONE)
    while pace.alone[-2:] != [True, False]:
        pace.run(1, TEAM, ALONE)
    pace.run(7, TEAM, ALONE)
    pace.run(100, 0.9 * LOADED, ALONE)
    assert sum(pace.alone[-100:]) > 75


def test_a_lucky_trial_under_load_does_no_lasting_harm(pace):
    rng = random.Random(3)
    pace.run(4000, lambda step: TEAM if rng.random() < 0.6 else LOADED, ALONE)
    assert sum(pace.spent_ms) < 1.15 * 4000 * ALONE


def test_a_slow_start_is_not_taken_for_usual(pace):
    """The first steps read the file from the disk."""
    pace.run(20, lambda step: 30 - step, 40).run(200, TEAM, ALONE)
    assert not any(pace.alone[-100:])


@settings(max_examples=60, deadline=None)
@given(team_ms=st.floats(0.01, 100), alone_ms=st.floats(0.01, 100), jitter=st.floats(0, 0.3))
def test_a_steady_world_costs_little_more_than_its_best_way(library, team_ms, alone_ms, jitter):
    pace = Pace(library).run(2000, noisy(team_ms, 1, jitter), noisy(alone_ms, 2, jitter))
    best_ms = min(team_ms, alone_ms) * (1 + jitter / 2)
    n_trials = 8 + 2000 / 256  # each as long as one step of the slower way, and a first window
    assert sum(pace.spent_ms) < 1.1 * 2000 * best_ms + (8 + n_trials) * max(team_ms, alone_ms) * 1.3
