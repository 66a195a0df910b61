"""Several processes make the run of one: the same losses, the same states, the same end."""

import json
import os
import signal
import time

import pytest
from torchrun import curve, finish, launch

from merino_edge.formats.architecture import write_architecture

pytestmark = [pytest.mark.torch, pytest.mark.slow]
STEPS = ["--corpus", "texts", "--steps", "20"]


@pytest.fixture(scope="module")
def home(tmp_path_factory, texts, architecture):
    """A folder with arch.json, texts, and the run of one process in "one"."""
    folder = tmp_path_factory.mktemp("home")
    write_architecture(str(folder / "arch.json"), architecture)
    (folder / "texts").symlink_to(texts)
    assert finish(launch(folder, 1, *STEPS, "-o", "one"))[0] == 0
    return folder


def assert_same_run(home, output):
    """The losses of 20 steps are those of one process.

    Each process averages half of the windows and the two halves are added, so sums of 128 float32
    numbers are taken in another order: a relative 1e-7 a step, which Adam's division can magnify
    where a gradient is almost zero. Over 20 steps 1e-5 leaves room for that, and is far below what
    a window seen twice or left out would change (1e-2).
    """
    for one, other in zip(curve(home, "one"), curve(home, output), strict=True):
        assert other == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize(
    "more",
    [[], ["--shard"], ["--batch-size", "2", "--accumulate", "2"]],
    ids=["copies", "parts", "passes"],
)
def test_two_processes_make_the_run_of_one(home, more, request):
    output = request.node.callspec.id
    code, err = finish(launch(home, 2, *STEPS, "-o", output, *more))
    assert code == 0, err
    assert_same_run(home, output)


def wait_for(path, seconds=60):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not come within {seconds} s"
        time.sleep(0.02)


LONG = ["--corpus", "texts", "--steps", "100000"]


def test_any_number_of_processes_continues_a_run_and_a_signal_stops_all_at_one_step(home):
    steps = []
    for n_processes in (2, 1, 2):
        state = home / "long.run" / "state.json"
        before = json.loads(state.read_text())["step"] if state.exists() else 0
        process = launch(home, n_processes, *LONG, "-o", "long", "--resume")
        while not state.exists() or json.loads(state.read_text())["step"] == before:
            assert process.poll() is None, finish(process)
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = finish(process)
        steps.append(json.loads(state.read_text())["step"])
        assert f"stopped by SIGINT after step {steps[-1]} of 100000" in err
        assert err.count("error: ") == 1  # process 0 speaks for all
        assert len(curve(home, "long")) == steps[-1]
    assert steps == sorted(steps)


def test_a_process_that_dies_ends_the_others_and_leaves_the_last_state(home):
    from merino_edge.training.run_folder import RunFolder

    process = launch(home, 2, *LONG, "-o", "lost")
    wait_for(home / "lost.run" / "state.json")
    os.kill(rank_one_of(process.pid), signal.SIGKILL)
    code, err = finish(process)
    assert code != 0
    assert "process 0 of 2 lost another" in err
    assert "--resume continues" in err
    folder = RunFolder(str(home / "lost.run"))
    state = folder.state()
    assert state.step % 5 == 0
    assert folder.arrays(state.weights)


def rank_one_of(pid):
    """The process of rank 1 below a torchrun, by what its environment says (Linux)."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as stream:
                parent = int(stream.read().rsplit(")", 1)[1].split()[1])
            with open(f"/proc/{entry}/environ", "rb") as stream:
                variables = stream.read().split(b"\0")
        except OSError:
            continue
        if parent == pid and b"RANK=1" in variables:
            return int(entry)
    raise AssertionError("no process of rank 1")


def test_what_process_0_refuses_is_said_once(home):
    (home / "bad.txt").write_bytes(b"caf\xe9")
    code, err = finish(launch(home, 2, "--corpus", "bad.txt", "--steps", "5", "-o", "bad"))
    assert code != 0
    assert err.count("not UTF-8 at byte 3") == 1
    assert "lost another" not in err


def test_a_loss_that_is_no_number_stops_all_and_keeps_the_last_good_state(home):
    words = ["--learning-rate", "1e30", "--warmup-steps", "0", "--save-every", "1"]
    code, err = finish(launch(home, 2, *STEPS, *words, "-o", "nan"))
    assert code != 0
    assert err.count("gave loss nan") == 1
    assert (home / "nan.run" / "state.json").exists()
