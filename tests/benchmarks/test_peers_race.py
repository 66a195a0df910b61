"""Contestants in processes of their own: real ones, on a decoder of a few kilobytes."""

import os
import subprocess
import sys
import time

import pytest
from repository import ROOT

from merino_edge.formats.architecture import Architecture, BlockSpec, write_architecture
from merino_edge.formats.bundle import Bundle

FOLDER = ROOT / "benchmarks" / "peers"
sys.path.append(str(FOLDER))
import race  # noqa: E402
import rooflines  # noqa: E402
from contest_process import ContestantError, ContestProcess, environment  # noqa: E402
from peers_report import Setting  # noqa: E402

READS = {"path": "", "threads": 1, "kv_bytes_per_token": 64, "context_len": 64}
SETTING = Setting([8, 24], 8, 16, 2, 1, 4, 1, 64, 0)
TINY = Architecture((BlockSpec(32, 2, 2, 64, 3),), vocab_size=90, max_seq_len=64)


def start_reading(tmp_path, n_bytes=1 << 20, adapter="reading"):
    options = {**READS, "parts": [[n_bytes, 2]]}
    log = str(tmp_path / "reading.log")
    return ContestProcess(sys.executable, adapter, options, environment(1), log)


@pytest.fixture
def reading(tmp_path):
    process = start_reading(tmp_path)
    yield process
    process.close()


def test_a_contestant_times_every_token_and_tells_its_peak(reading):
    assert "numpy" in reading.ask("open")["about"]
    reading.ask("prefill", ids=[1, 2, 3])
    times = reading.ask("decode", ids=list(range(20)))["ms"]
    assert len(times) == 20
    assert min(times) > 0.0
    assert reading.peak_bytes > 10 << 20


def test_only_reading_takes_longer_for_more_bytes(tmp_path):
    found = []
    for n_bytes in (1 << 20, 64 << 20):
        process = start_reading(tmp_path, n_bytes)
        process.ask("open")
        found.append(min(process.ask("decode", ids=list(range(16)))["ms"]))
        process.close()
    assert found[1] > 8 * found[0]  # 64 times the bytes; a cache may serve the fewer faster


def test_a_contestant_that_waits_uses_no_core(reading):
    reading.ask("open")
    reading.ask("decode", ids=[1, 2, 3])
    reading.settle(0.1)
    time.sleep(0.5)
    reading.ask("reset")
    assert reading.slept_s > 0.45
    assert reading.cpu_while_asleep_s <= 0.02  # two ticks of the kernel's clock


def test_what_a_library_prints_does_not_disturb_the_answers(tmp_path):
    code = (
        "import os; print('hello'); os.system('echo hello')\nfrom adapters.reading import Runtime"
    )
    folder = tmp_path / "adapters"
    folder.mkdir()
    (folder / "loud.py").write_text(code, "utf-8")
    wrapper = tmp_path / "python"
    paths = f"import sys; sys.argv[0] = {str(FOLDER / 'child.py')!r}; import runpy, adapters; "
    paths += f"adapters.__path__.append({str(folder)!r}); "
    paths += "runpy.run_path(sys.argv[0], run_name='__main__')"
    shell = f'#!/bin/sh\nshift\nPYTHONPATH="{FOLDER}" exec "{sys.executable}" -c "{paths}" "$@"\n'
    wrapper.write_text(shell, "utf-8")
    wrapper.chmod(0o755)
    options = {**READS, "parts": [[4096, 1]]}
    log = str(tmp_path / "loud.log")
    process = ContestProcess(str(wrapper), "loud", options, environment(1), log)
    assert "numpy" in process.ask("open")["about"]
    process.close()
    assert (tmp_path / "loud.log").read_text("utf-8").split() == ["hello", "hello"]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"parts": [["x", 1]]}, "TypeError"), ({"parts": [], "unknown": 1}, "unknown")],
)
def test_a_failure_is_told_in_the_contestants_own_words(tmp_path, options, words):
    log = str(tmp_path / "failing.log")
    process = ContestProcess(sys.executable, "reading", {**READS, **options}, environment(1), log)
    with pytest.raises(ContestantError, match=words):
        process.ask("open")
    process.close()


def test_a_missing_runtime_and_a_dead_process_are_failures_too(tmp_path, reading):
    process = start_reading(tmp_path, adapter="nobody")
    with pytest.raises(ContestantError, match="No module named"):
        process.ask("open")
    process.close()
    reading.ask("open")
    reading.kill()
    with pytest.raises(ContestantError, match="it died"):
        reading.ask("reset")


def test_a_question_without_an_answer_ends_in_time(tmp_path):
    options = {**READS, "parts": [[1 << 28, 400]]}
    log = str(tmp_path / "slow.log")
    process = ContestProcess(sys.executable, "reading", options, environment(1), log)
    process.ask("open")
    process.timeout_s = 0.3
    with pytest.raises(ContestantError, match="no answer to 'decode' within"):
        process.ask("decode", ids=list(range(8)))
    process.close()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A tiny decoder with a block of depth 3, as ``merino-edge build`` makes it."""
    folder = tmp_path_factory.mktemp("tiny")
    source, path = str(folder / "arch.json"), str(folder / "bundle")
    write_architecture(source, TINY)
    words = ["build", "--target", "host", "--random-weights", "--quiet", source, "-o", path]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "merino_edge", *words], env=env, check=True)
    return path


@pytest.mark.torch
@pytest.mark.onnx
def test_a_step_reads_a_shared_block_as_often_as_it_is_applied(bundle):
    found = rooflines.step_reads(Bundle.open(bundle))
    body = 4 * (4 * 32 * 32 + 2 * 32 * 64 + 5 * 32 + 64)
    head = 4 * 90 * 32
    norms = 4 * 2 * 32 * (2 * 3 + 1)
    assert found.stored_bytes == body + head + norms
    assert found.executed_bytes == 3 * body + head + norms
    assert found.parts[-1] == (head, 1)
    assert found.kv_bytes_per_token == 3 * 2 * 32 * 4


@pytest.mark.torch
@pytest.mark.onnx
def test_a_race_keeps_everybody_elses_samples_when_one_fails(bundle, tmp_path):
    def entry(name, adapter, options, **more):
        def start(variant):
            log = str(tmp_path / f"{name}.log")
            env = environment(1, str(ROOT))
            merged = {**options, **variant}
            return ContestProcess(sys.executable, adapter, merged, env, log)

        return race.Entry(name, start, **more)

    ours = {"path": bundle, "threads": 1, "backend": "ort"}
    ways = ({"parts": [[32 << 20, 2]]}, {"parts": [[4096, 1]]}, {"parts": "nonsense"})
    entries = [
        entry("ours", "ours", ours),
        entry("gone", "ours", {**ours, "path": str(tmp_path / "nothing")}),
        entry("reading", "reading", READS, variants=ways, only_reads=True),
    ]
    saved, notes = [], []
    found = race.Race(entries, SETTING, TINY.vocab_size, notes.append)
    golden = {"ours": Bundle.open(bundle).manifest.golden}
    found.run(golden, lambda: saved.append(len(found.intervals)))
    first, gone, reads = entries
    assert saved == [1, 2, 3]  # the round to warm up, and two that count
    assert {past: len(ms) for past, ms in first.decode_ms.items()} == {"8": 2, "24": 2}
    assert len(first.prefill_tok_per_s) == len(first.first_token_s) * 2 == 2
    assert first.process_s[0] > first.first_token_s[0]
    assert first.agreement[0] == first.agreement[1] > 30
    assert first.peak_bytes > 10 << 20
    assert "FormatError" in gone.failure
    assert any(note.startswith("gone is out: ") for note in notes)
    assert gone.decode_ms == {}
    assert reads.variant == ways[1]
    assert reads.trials["parts=nonsense"] is None
    assert reads.prefill_tok_per_s == []
    assert all(e.process is None for e in entries)
