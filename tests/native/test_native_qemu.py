"""The NEON kernels run for real, under emulation, and say what x86 says.

A Cortex-A57, as on the Nano, has no dot product and must take "neon"; a processor with everything
must take "neondot". Both read the same files as this machine. What may differ is the order in which
floats are added, and with it which of two neighbouring integers an activation on the border between
them becomes: the bounds are below, each with its reason.
"""

import importlib.util
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from doubles import random_tensors
from native_core import F32, Q4, Q8, STRICT, compile_c, pack, sources
from test_native_decoder import ARCHITECTURES

HERE = pathlib.Path(__file__).parent
IDS = np.random.RandomState(5).randint(0, 300, 24)
N_GREEDY = 12
# All integer sums are exact. Float sums of some hundred terms in another order, over three layers:
ORDER = 1e-5
# An activation on the border of two integers may fall to either side: 1/127 of a block's largest
# value in one channel. Most tokens meet none; the tests of the x86 kernels allow as much.
BORDER = 0.02


def cross_compiler():
    """A command that compiles and links for 64-bit ARM, or nothing."""
    if shutil.which("aarch64-linux-gnu-gcc"):
        return ["aarch64-linux-gnu-gcc"]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl"]
    return None


def compile_for_arm(main, path):
    compiler = cross_compiler()
    if compiler is None:
        pytest.skip("no compiler for 64-bit ARM (aarch64-linux-gnu-gcc, or the package ziglang)")
    command = [*compiler, *STRICT, "-static", main, *sources(), "-lm", "-o", path]
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


def run(*command):
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_as(processor, *command):
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 (Debian: qemu-user) is not here")
    return run("qemu-aarch64", "-cpu", processor, *command)


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The same driver for ARM and for this machine."""
    folder = tmp_path_factory.mktemp("qemu")
    arm = compile_for_arm(HERE / "qemu_logits.c", folder / "arm")
    compile_c(HERE / "qemu_logits.c", *sources(), "-o", folder / "native")
    return arm, folder / "native"


def rows_of(text):
    """The name of the kernels, and logits [tokens, vocab]."""
    name, *lines = text.splitlines()
    return name, np.array([[float.fromhex(x) for x in line.split()] for line in lines], np.float32)


def logits_everywhere(programs, path):
    """{kernels: logits} of an A57, of an ARM with everything and of this machine."""
    arm, native = programs
    arguments = [path, N_GREEDY, *IDS]
    found = [run_as(processor, arm, *arguments) for processor in ("cortex-a57", "max")]
    return [rows_of(text) for text in [*found, run(native, *arguments)]]


@pytest.mark.parametrize("kind", [F32, Q8, Q4], ids=["f32", "q8", "q4"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_arm_says_what_this_machine_says(tmp_path, programs, name, kind):
    a = ARCHITECTURES[name]
    path = tmp_path / "model.merino"
    path.write_bytes(pack(a, random_tensors(a, 3), kind))
    (a57, neon), (newest, dot), (_, here) = logits_everywhere(programs, path)

    assert (a57, newest) == ("neon", "neondot")
    assert neon.shape == (len(IDS) + N_GREEDY, a.vocab_size)
    assert np.array_equal(neon, dot)  # the same integers, and the same floats in the same order
    assert np.array_equal(neon.argmax(axis=1), here.argmax(axis=1))  # so the greedy text, too
    errors = np.abs(neon - here).max(axis=1) / np.abs(here).max()
    assert np.median(errors) < ORDER
    assert errors.max() < (ORDER if kind == F32 else BORDER)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processor", "kernels"), [("cortex-a57", ["neon"]), ("max", ["neon", "neondot"])]
)
def test_every_neon_kernel_equals_the_plain_one(tmp_path, processor, kernels):
    program = compile_for_arm(HERE / "kernels_check.c", tmp_path / "kernels_check")
    report = run_as(processor, program)
    assert report.splitlines() == [f"{name}: 0 differences" for name in ["plain", *kernels]]
