"""The aarch64 wheel runs as installed, and says what x86 says: ``make test-aarch64``.

The wheel is the one that is given away, with the native library that zig compiles; numpy,
tokenizers and onnxruntime beside it are the published ones for ARM. What is emulated is the
processor, so nothing here is a promise of speed. See arm_root.py for how it is done.
"""

import importlib.util
import json
import shutil
import subprocess
import sys

import pytest
from arm_root import NEWER, OLDER, make_root
from bundles_for_arm import KINDS, write_bundles
from repository import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.onnx, pytest.mark.torch]
PROMPT, N_TOKENS = "The sheep", 40


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Ours for ARM."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("not installed: ziglang")
    folder = tmp_path_factory.mktemp("wheels")
    subprocess.run([sys.executable, ROOT / "native_build.py", "wheels", folder], check=True)
    (found,) = folder.glob("*aarch64*.whl")
    return found


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """A folder with a bundle of each kind, made here."""
    folder = tmp_path_factory.mktemp("bundles")
    write_bundles(folder)
    return folder


@pytest.fixture(scope="session", params=[NEWER, OLDER], ids=lambda release: release.name)
def arm(request, wheel, bundles):
    """A root with our wheel and the bundles in it."""
    root = make_root(request.param)
    root.install(wheel)
    for name in KINDS:
        shutil.rmtree(root.path / "mnt" / name, ignore_errors=True)
        shutil.copytree(bundles / name, root.path / "mnt" / name)
    return root


def words(path, backend):
    """Of a greedy run."""
    sampling = ["--prompt", PROMPT, "--max-new-tokens", str(N_TOKENS), "--min-new-tokens", "40"]
    return ["-m", "merino_edge", "run", str(path), *sampling, "--backend", backend, "--json"]


def on_arm(root, name, backend, processor="cortex-a57"):
    return json.loads(root.python(*words(f"/mnt/{name}", backend), processor=processor))


def on_this_machine(bundles, name, backend):
    done = subprocess.run([sys.executable, *words(bundles / name, backend)], stdout=subprocess.PIPE)
    assert done.returncode == 0
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", KINDS)
def test_a_greedy_text_on_arm_has_the_tokens_of_x86(arm, bundles, native_library, name):
    backend = KINDS[name][2]
    here, there = on_this_machine(bundles, name, backend), on_arm(arm, name, backend)
    assert len(here["output_ids"]) == N_TOKENS
    assert len(set(here["output_ids"])) > 4  # a text that repeats one token shows little
    assert (there["backend"], there["output_ids"]) == (backend, here["output_ids"])
    assert there["text"] == here["text"]


def test_a_processor_with_dot_products_has_the_same_tokens(arm, bundles, native_library):
    here = on_this_machine(bundles, "int8", "native")
    there = on_arm(arm, "int8", "native", processor="max")
    assert there["output_ids"] == here["output_ids"]


@pytest.mark.parametrize("name", KINDS)
def test_verify_passes_on_arm_with_the_golden_tokens_of_x86(arm, name):
    said = arm.python("-m", "merino_edge", "verify", f"/mnt/{name}")
    assert "golden tokens agree" in said
    assert "FAIL" not in said


@pytest.mark.parametrize(("processor", "kernels"), [("cortex-a57", "neon"), ("max", "neondot")])
def test_doctor_finds_an_arm_and_the_kernels_for_it(arm, processor, kernels):
    about = json.loads(arm.python("-m", "merino_edge", "doctor", "--json", processor=processor))
    checks = {check["name"]: check for check in about["checks"]}
    assert about["device"]["machine"] == "aarch64"
    assert about["device"]["cpu"].startswith(("ARM", "Cortex"))
    assert f", {kernels} kernels" in checks["native"]["found"]
    assert checks["cpu"]["status"] == "ok"
    assert {checks[name]["status"] for name in ("numpy", "tokenizers", "onnxruntime")} == {"ok"}
