"""Threads of the C core: teams that meet, sessions side by side, a machine that is busy."""

import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
from doubles import llama_architecture, random_tensors, tiny_architecture
from native_core import F32, NATIVE, Q4, Q8, Session, compile_c, load, pack, program, run, sources

from merino_edge.formats.architecture import BlockSpec

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")

WATCHED = ["-O1", "-g", "-fsanitize=thread"]
COUNTED = [
    "-Wl," + ",".join(f"--wrap={f}" for f in ("malloc", "calloc", "realloc", "posix_memalign"))
]
# Whole groups, panels and heads that 3 or 8 threads cannot share evenly.
UNEVEN = llama_architecture(
    blocks=(BlockSpec(48, 6, 3, 72, 2), BlockSpec(40, 5, 5, 100, 1)), max_seq_len=300
)


def write_model(folder, architecture, kind):
    path = folder / "model.merino"
    path.write_bytes(pack(architecture, random_tensors(architecture, 1), kind))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    architecture = llama_architecture(max_seq_len=300)
    return write_model(tmp_path_factory.mktemp("model"), architecture, Q8)


@pytest.fixture(scope="module")
def sessions_check(tmp_path_factory):
    return program(tmp_path_factory.mktemp("sessions"), "sessions_check", *COUNTED)


@pytest.fixture(scope="module")
def watched_sessions_check(tmp_path_factory):
    return program(tmp_path_factory.mktemp("watched"), "sessions_check", *WATCHED, *COUNTED)


@pytest.fixture(scope="module")
def library_of_eight(tmp_path_factory):
    """The core on a machine with eight processors, as far as it knows."""
    path = tmp_path_factory.mktemp("eight") / "libmerino_edge.so"
    others = [source for source in sources() if not source.endswith("processors.c")]
    eight = pathlib.Path(__file__).with_name("eight_processors.c")
    compile_c("-fPIC", "-shared", *others, eight, "-o", path)
    return load(path)


def team_check(folder, *flags):
    """Threads.c needs nothing else of the core."""
    path, main = folder / "team_check", pathlib.Path(__file__).with_name("team_check.c")
    compile_c(*flags, main, NATIVE / "src" / "threads.c", "-o", path)
    return path


@pytest.mark.parametrize("flags", [[], WATCHED], ids=["plain", "watched"])
def test_nobody_passes_a_meeting_early(tmp_path, flags):
    run(team_check(tmp_path, *flags))


def test_a_team_that_cannot_be_had_ends(tmp_path):
    run(team_check(tmp_path), "starved")


@pytest.mark.parametrize("kind", [F32, Q8, Q4], ids=["f32", "q8", "q4"])
@pytest.mark.parametrize("n_threads", [2, 3, 8])
def test_no_logit_depends_on_the_number_of_threads(tmp_path, library_of_eight, kind, n_threads):
    """Steps are mixed, too: the first trial of one thread comes after eight of them."""
    path = write_model(tmp_path, UNEVEN, kind)
    ids = np.random.RandomState(4).randint(0, 300, 200)
    alone, team = (Session(library_of_eight, path, 300, n) for n in (1, n_threads))
    for session in alone, team:
        session.found = list(session.prefill(ids[:150], 150, 300))
        session.found += [session.step(token, 300) for token in ids[150:]]
        session.close()
    assert np.array_equal(alone.found, team.found)


def test_a_team_is_no_larger_than_it_is_of_use(tmp_path, library, library_of_eight):
    path = write_model(tmp_path, UNEVEN, Q8)
    n_usable = library.me_usable_threads()
    session, of_eight = (Session(each, path, 300, 64) for each in (library, library_of_eight))
    n_bytes = [library.me_session_bytes(session.model, 300, n) for n in (n_usable, 64, 65, 0)]
    n_bytes_of_eight = library_of_eight.me_session_bytes(of_eight.model, 300, 64)
    session.close()
    of_eight.close()
    assert n_bytes[0] == n_bytes[1] > 0
    assert n_bytes[2:] == [0, 0]
    if n_usable < 8:
        assert n_bytes_of_eight > n_bytes[0]


def test_a_prefill_is_cancelled_between_chunks_and_the_session_goes_on(sessions_check, model):
    assert "kept" in run(sessions_check, "cancel", model)


def test_sessions_beside_each_other_give_the_logits_of_one_alone(sessions_check, model):
    assert "kept" in run(sessions_check, "together", model)


@pytest.mark.parametrize("promise", ["cancel", "together"])
def test_the_thread_sanitizer_sees_no_race(watched_sessions_check, model, promise):
    assert "kept" in run(watched_sessions_check, promise, model)


def test_twenty_thousand_steps_need_no_more_memory_than_one_thousand(sessions_check, model):
    assert "kept" in run(sessions_check, "memory", model)


def test_a_team_between_steps_sleeps(sessions_check, model):
    assert "kept" in run(sessions_check, "idle", model)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_step_asks_nothing_of_the_system_but_to_wake_workers(sessions_check, model, n_threads):
    clock = pathlib.Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if clock.exists() and clock.read_text().strip() not in ("tsc", "kvm-clock", "arch_sys_counter"):
        pytest.skip("this machine's clock is a system call")
    done = subprocess.run([sessions_check, "calls", model, str(n_threads)], timeout=60)
    if done.returncode == 77:
        pytest.skip("this kernel forbids no calls")
    assert done.returncode == 0


BUSY = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
LARGE = tiny_architecture(
    blocks=(BlockSpec(512, 8, 8, 2048, 8),), vocab_size=2000, max_seq_len=300, activation="relu"
)


def medians_ms(sessions, n_rounds):
    """A step's median for each session, taken by turns."""
    spent = [[] for _ in sessions]
    for _ in range(n_rounds):
        for session, durations in zip(sessions, spent, strict=True):
            session.library.me_reset(session.session)
            for token in range(100):
                began = time.perf_counter()
                session.step(token, LARGE.vocab_size)
                durations.append(1e3 * (time.perf_counter() - began))
    return [float(np.median(durations)) for durations in spent]


@pytest.mark.slow
@pytest.mark.parametrize("n_busy", [0, 1, 2])
def test_two_threads_are_not_slower_than_one_beside_a_busy_process(tmp_path, library, n_busy):
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2 or library.me_usable_threads() < 2:
        pytest.skip("one processor has no team")
    path = write_model(tmp_path, LARGE, Q8)
    sessions = [Session(library, path, 300, n_threads) for n_threads in (1, 2)]
    busy = [
        subprocess.Popen([sys.executable, "-c", BUSY, str(processors[-1 - i])])
        for i in range(n_busy)
    ]
    try:
        medians_ms(sessions, 1)
        alone_ms, team_ms = medians_ms(sessions, 5)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    for session in sessions:
        session.close()
    assert team_ms < 1.3 * alone_ms, (team_ms, alone_ms)
