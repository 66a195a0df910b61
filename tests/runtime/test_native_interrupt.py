"""Ctrl-C during a long prompt: a real signal to a real process, in the middle of the C core's work.

Python acts on a signal when a call of C returns, so a prompt goes to the core in chunks. The model
is small on disk and slow to read: one block of width 256 applied 8 times, over 6,000 tokens.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from doubles import llama_architecture, native_bundle

from merino_edge.formats.architecture import BlockSpec

N_PROMPT = 6000
BLOCK = BlockSpec(d_model=256, n_head=4, n_kv_head=4, d_ff=512, depth=8)
CHILD = """
import json, os, signal, sys, threading, time
from merino_edge.runtime import GenerationConfig, load

session = load(sys.argv[1], backend="native", threads=1)
config = GenerationConfig(max_new_tokens=8, eos_token_ids=())
before = list(session.generate([1, 2, 3], config))

def interrupt():
    core = session.backend._library.call.me_position
    while core(session.backend._session) < 256:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

session.reset()
ids = [i % 300 for i in range(int(sys.argv[2]))]
threading.Thread(target=interrupt, daemon=True).start()
try:
    session.prefill(ids)
except KeyboardInterrupt:
    position = session.position
row = session.step(1).copy()
session.reset()
session.prefill(ids[:position])
goes_on = (row == session.step(1)).all()
again = list(session.generate([1, 2, 3], config)) == before
print(json.dumps([position, bool(goes_on), again]))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, native_library):
    a = llama_architecture(blocks=(BLOCK,), max_seq_len=N_PROMPT + 100)
    return native_bundle(tmp_path_factory.mktemp("slow") / "bundle", a)


def test_an_interrupted_prompt_ends_soon_and_the_session_goes_on(bundle):
    words = [sys.executable, "-c", CHILD, bundle, str(N_PROMPT)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    position, goes_on, again = json.loads(done.stdout)

    assert 128 <= position < N_PROMPT / 2
    # In the middle of a chunk, which is likelier than between two, the core has read on and nobody
    # was told: then it goes back to what the session knows of.
    assert goes_on
    assert again


def cpu_s(child):
    """Processor time of a running process, its threads included."""
    with open(f"/proc/{child.pid}/stat") as stream:
        user, system = stream.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc here")
def test_the_command_keeps_what_it_has_and_ends_with_130(bundle):
    words = ["run", bundle, "--prompt", "-", "--max-new-tokens", "1", "--threads", "1"]
    child = subprocess.Popen(
        [sys.executable, "-m", "merino_edge", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert b"backend native" in child.stderr.readline()
        before = cpu_s(child)  # loaded; what comes now is the prompt, seconds of it
        child.stdin.write(b"a " * (N_PROMPT - 10))
        child.stdin.close()
        while cpu_s(child) < before + 0.1:
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        told = child.stderr.read().decode()
        assert child.wait(timeout=60) == 130
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()
    assert "0 generated (cancelled, native)" in told
    assert "Traceback" not in told
