"""A build may be killed, crash or be interrupted: the parent says why, and nothing is left."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from merino_edge.errors import DeviceMemoryError, EngineError, MissingDependencyError
from merino_edge.runtime.engine import process
from merino_edge.runtime.engine.process import build_in_child

pytestmark = pytest.mark.onnx
pytest.importorskip("onnx")
from tiny_engine_graph import request_for, write_graph  # noqa: E402

TESTS = pathlib.Path(__file__).parent.parent.parent
DOUBLE = TESTS / "tensorrt_double" / "site"

INTERRUPTED = """
import os, sys
sys.path[:0] = [{tests!r}]
from tiny_engine_graph import request_for
from merino_edge.runtime.engine.process import build_in_child
print("ready", flush=True)
build_in_child(request_for({graph!r}), {plan!r}, lambda beat: print(beat.line, flush=True))
"""


@pytest.fixture
def graph(tmp_path):
    return write_graph(tmp_path / "bundle")


@pytest.fixture
def plan(tmp_path):
    """Where the plan shall stand; an old one stands there."""
    path = tmp_path / "cache" / "engine.plan"
    path.parent.mkdir()
    path.write_bytes(b"the old plan")
    return path


@pytest.fixture
def double(monkeypatch):
    """Gives the children TensorRT's double; call it with the faults to plant."""
    monkeypatch.setenv("PYTHONPATH", str(DOUBLE))
    monkeypatch.setenv("TENSORRT_DOUBLE_VERSION", "8.2.1")

    def plant(**faults):
        monkeypatch.setenv("TENSORRT_DOUBLE_FAULTS", json.dumps(faults))

    plant()
    return plant


@pytest.fixture
def broken_library(tmp_path, monkeypatch):
    """Gives the children a module ``tensorrt`` that does what the test says when imported."""

    def install(code):
        site = tmp_path / "site"
        site.mkdir()
        (site / "tensorrt.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(site))

    return install


def assert_old_state(plan):
    assert plan.read_bytes() == b"the old plan"
    assert os.listdir(plan.parent) == ["engine.plan"]


def is_running(pid):
    """Whether a process lives; a zombie does not."""
    try:
        return "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_until(claim, seconds=10):
    end = time.monotonic() + seconds
    while not claim() and time.monotonic() < end:
        time.sleep(0.05)
    assert claim()


def test_a_plan_is_built_whole_with_its_checksum(double, graph, plan):
    report = build_in_child(request_for(graph), str(plan))
    data = plan.read_bytes()
    assert report.plan_sha256 == hashlib.sha256(data).hexdigest()
    assert report.plan_bytes == len(data) > 100
    assert report.tensorrt == "8.2.1.8"
    assert report.n_fp32_layers == 8
    assert report.peak_rss_bytes > 10**7
    assert 0 < report.lowest_available_bytes <= report.available_before_bytes
    assert report.warnings == []
    assert os.listdir(plan.parent) == ["engine.plan"]


def test_a_silent_build_is_heard_of_at_least_every_two_seconds(double, graph, plan):
    double(build_seconds=3.0)
    beats = []
    build_in_child(request_for(graph), str(plan), beats.append)
    times = [0.0] + [beat.elapsed_s for beat in beats]
    assert max(times[i] - times[i - 1] for i in range(1, len(times))) < 2.0
    slow = [beat for beat in beats if beat.line.startswith("building ")]
    assert len(slow) >= 3
    assert all(beat.rss_bytes > 10**7 and beat.available_bytes > 0 for beat in slow)


def test_a_killed_build_is_a_memory_error_and_the_old_plan_stands(double, graph, plan):
    double(build_is_killed=True)
    with pytest.raises(DeviceMemoryError, match="the build was killed") as caught:
        build_in_child(request_for(graph), str(plan))
    assert caught.value.exit_code == 4
    assert "swapon" in caught.value.hint
    assert caught.value.needed_bytes > 10**7
    assert_old_state(plan)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (3, 4, "by Linux, for its memory"),
        (None, None, "probably by Linux, for its memory; this kernel keeps no count"),
        (3, 3, "by someone, not by Linux"),
    ],
)
def test_the_killer_is_named_as_surely_as_the_kernel_counts(monkeypatch, before, after, words):
    monkeypatch.setattr(process, "oom_kills", lambda: after)
    assert process._killer(before).startswith(words)


def test_memory_that_tensorrt_lacks_keeps_its_numbers(double, graph, plan):
    double(build={"message": "OutOfMemory: GPU memory (123456789 bytes) could not be allocated"})
    with pytest.raises(DeviceMemoryError) as caught:
        build_in_child(request_for(graph), str(plan))
    assert caught.value.needed_bytes == 123456789
    assert "123456789 bytes needed" in caught.value.note
    assert_old_state(plan)


def test_a_refused_graph_crosses_with_the_parsers_words(double, graph, plan):
    double(parse={"message": "No importer registered for op: Trilu"})
    with pytest.raises(EngineError, match="No importer registered for op: Trilu") as caught:
        build_in_child(request_for(graph), str(plan))
    assert "verify" in caught.value.hint
    assert_old_state(plan)


def test_a_missing_library_crosses_with_its_hint(broken_library, graph, plan):
    broken_library("raise ModuleNotFoundError('no', name='tensorrt')")
    with pytest.raises(MissingDependencyError, match="JetPack") as caught:
        build_in_child(request_for(graph), str(plan))
    assert caught.value.package == "tensorrt"


def test_a_crash_is_told_with_its_signal_and_last_words(broken_library, graph, plan):
    broken_library(
        "import os, signal, sys; sys.stderr.write('cask is empty\\n'); sys.stderr.flush(); "
        "os.kill(os.getpid(), signal.SIGSEGV)"
    )
    with pytest.raises(EngineError, match="SIGSEGV") as caught:
        build_in_child(request_for(graph), str(plan))
    assert "cask is empty" in caught.value.note
    assert_old_state(plan)


def test_a_cpp_program_out_of_memory_is_a_memory_error(broken_library, graph, plan):
    broken_library(
        "import os, sys; sys.stderr.write('terminate called: std::bad_alloc'); sys.stderr.flush(); "
        "os.abort()"
    )
    with pytest.raises(DeviceMemoryError, match="bad_alloc"):
        build_in_child(request_for(graph), str(plan))


def test_a_bug_shows_its_last_lines(broken_library, graph, plan):
    broken_library("raise RuntimeError('who wrote this')")
    with pytest.raises(EngineError, match="ended with code 1") as caught:
        build_in_child(request_for(graph), str(plan))
    assert "who wrote this" in caught.value.note


def test_what_native_code_prints_does_not_disturb_the_messages(broken_library, graph, plan):
    broken_library(
        "import os, sys; os.write(1, b'loud library\\n'); del sys.modules['tensorrt']; "
        f"sys.path.insert(0, {str(DOUBLE)!r}); import tensorrt"
    )
    assert build_in_child(request_for(graph), str(plan)).plan_bytes > 100


def test_short_memory_is_warned_about_while_it_builds(double, graph, plan):
    beats = []
    report = build_in_child(request_for(graph), str(plan), beats.append, floor_bytes=1 << 60)
    assert len(report.warnings) == 1
    assert "of memory are available" in report.warnings[0]
    assert any(beat.line == "warning: " + report.warnings[0] for beat in beats)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_told_and_the_old_plan_stands(double, graph, plan):
    os.symlink("/dev/full", f"{plan}.part")  # a file system that is full, for one file
    with pytest.raises(OSError, match="No space left on device") as caught:
        build_in_child(request_for(graph), str(plan))
    assert caught.value.filename == str(plan)
    assert_old_state(plan)


def test_a_folder_that_is_gone_is_told(double, graph, tmp_path):
    with pytest.raises(OSError, match="No such file"):
        build_in_child(request_for(graph), str(tmp_path / "nowhere" / "engine.plan"))


def test_an_interrupt_in_the_parent_ends_the_child(double, graph, plan):
    double(build_seconds=60)
    pids = []

    def interrupt(beat):
        if beat.line.startswith("building"):
            pids.extend(children_of(os.getpid()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_in_child(request_for(graph), str(plan), interrupt)
    assert pids
    assert not any(is_running(pid) for pid in pids)
    assert_old_state(plan)


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_no_child_outlives_its_parent(double, graph, plan, blow):
    double(build_seconds=60)
    code = INTERRUPTED.format(tests=str(pathlib.Path(__file__).parent), graph=graph, plan=str(plan))
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True, cwd=TESTS.parent,
    )  # fmt: skip
    try:
        while not parent.stdout.readline().startswith(b"building"):
            assert parent.poll() is None
        child = children_of(parent.pid)
        assert child
        if blow == signal.SIGINT:  # as a terminal does: to the whole group, the child included
            os.killpg(parent.pid, blow)
        else:
            parent.kill()
        parent.wait(10)
        wait_until(lambda: not any(is_running(pid) for pid in child))
        assert_old_state(plan)
    finally:
        parent.kill()
        parent.stdout.close()


def children_of(pid):
    """Processes whose parent this is."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/status"):
        try:
            if f"\nPPid:\t{pid}\n" in path.read_text():
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
