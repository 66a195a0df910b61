"""The wheel in fresh environments: installed by each Python from a real index, and put to use.

What an index gives changes without a word of ours, and old Pythons are forgotten first, so nothing
is pinned here that a user would not pin. The wheel comes from the source archive. A Python that
this machine lacks is skipped; `.ci/find-python` says which it has.
"""

import os
import shutil
import subprocess
import sys

import pytest
from doubles import native_bundle
from package_builds import build_both, build_from_archive, needs_index
from repository import ROOT, find_python

from merino_edge import __version__
from merino_edge.cli.registry import COMMANDS
from merino_edge.runtime import GenerationConfig, load

pytestmark = pytest.mark.slow

PYTHONS = [f"3.{minor}" for minor in range(6, 14)]
GOLDEN_BUNDLE = ROOT / "tests/golden/tiny-bundle"
PROMPT, N_TOKENS = "the sheep", 6


class Environment:
    """A virtual environment with nothing but what pip was told; says what its programs print."""

    def __init__(self, python, folder):
        subprocess.run([python, "-m", "venv", folder], check=True)
        self.folder, self.programs = folder, folder / "bin"

    def pip(self, *wanted):
        self.ask("python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted)

    def run(self, program, *words):
        """Runs where no checkout is near, and without a variable of ours."""
        ours = ("PYTHONPATH", "MERINO_EDGE_NATIVE", "MERINO_EDGE_CACHE")
        return subprocess.run(
            [self.programs / program, *map(str, words)],
            cwd=self.folder,
            env={key: value for key, value in os.environ.items() if key not in ours},
            capture_output=True,
            text=True,
        )

    def ask(self, program, *words):
        done = self.run(program, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def generate(self, bundle, backend):
        """The text that ``merino-edge run`` writes."""
        words = ["--prompt", PROMPT, "--max-new-tokens", N_TOKENS, "--temperature", 0, "-q"]
        return self.ask("merino-edge", "run", bundle, *words, "--backend", backend).strip("\n")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Compiled by this machine's compiler from the source archive."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here (cc)")
    needs_index()
    folder = tmp_path_factory.mktemp("shipped")
    build_both(folder, "no-such-compiler")
    return build_from_archive(next(folder.glob("*.tar.gz")), folder / "unpacked", "cc")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A tiny bundle for the native decoder, which numpy reads too."""
    return native_bundle(tmp_path_factory.mktemp("native") / "bundle", seed=3)


@pytest.fixture(scope="module", params=PYTHONS)
def base(request, wheel, tmp_path_factory):
    """An environment of each Python with the wheel and no extra."""
    environment = Environment(
        find_python(request.param), tmp_path_factory.mktemp("python" + request.param) / "base"
    )
    if request.param == "3.6":
        environment.pip("pip==21.3.1")  # its own, 18.1, takes packages that 3.6 cannot run
    environment.pip(wheel)
    return environment


@pytest.fixture(scope="module")
def device(base, wheel):
    """The same with what a board may have besides."""
    base.pip(f"{wheel}[device,updates]")
    return base


@pytest.fixture(scope="module")
def workstation(wheel, tmp_path_factory):
    """The extra host under this Python, with the torch that this environment has."""
    torch = pytest.importorskip("torch").__version__
    environment = Environment(sys.executable, tmp_path_factory.mktemp("workstation") / "host")
    found = environment.run("python", "-m", "pip", "install", "-q", f"torch=={torch}")
    if found.returncode:
        pytest.skip(f"pip finds no torch {torch} here")
    environment.pip(f"{wheel}[host]")
    return environment


def expected(bundle, backend):
    """What this environment makes of the same prompt."""
    config = GenerationConfig(max_new_tokens=N_TOKENS, temperature=0.0)
    with load(str(bundle), backend=backend) as session:
        return "".join(session.stream(PROMPT, config)).strip("\n")


def test_the_program_says_its_version_and_its_commands(base):
    assert base.ask("merino-edge", "--version") == f"merino-edge {__version__}\n"
    overview = base.ask("merino-edge", "--help")
    assert [command.name for command in COMMANDS if command.name not in overview] == []


def test_the_runtime_loads_from_the_environment_without_a_warning(base):
    code = "import merino_edge.runtime as runtime; print(runtime.__file__)"
    assert base.ask("python", "-W", "error", "-c", code).startswith(str(base.folder))


def test_a_bundle_is_inspected_and_verified(base, bundle):
    assert "d16 h2 ff32 x2" in base.ask("merino-edge", "inspect", GOLDEN_BUNDLE)
    assert "tokens" in base.ask("merino-edge", "verify", bundle)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_bundle_says_the_same_on_every_python(base, bundle, backend):
    assert base.generate(bundle, backend) == expected(bundle, backend)


def test_a_command_of_the_workstation_says_what_is_missing(base):
    done = base.run("merino-edge", "search", "--target", "host", "-o", "arch.json")
    assert done.returncode in (1, 2)
    assert "merino-edge[host]" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_device_onnx_runtime_says_what_numpy_says(device):
    assert device.generate(GOLDEN_BUNDLE, "ort") == device.generate(GOLDEN_BUNDLE, "reference")


def test_with_updates_keys_are_made(device):
    device.ask("merino-edge", "bundle", "keygen", "-o", device.folder / "key")


def test_with_host_the_way_from_search_to_text_can_be_gone(workstation):
    def go(*words):
        return workstation.ask("merino-edge", *words)

    limits = ["--max-params", "1M", "--max-flops", "4G", "--candidates", 2000]
    go("search", "--target", "host", *limits, "-o", "arch.json")
    short = ["--vocab-size", 300, "--steps", 2, "--batch-size", 2, "--seq-len", 16]
    go("train", "arch.json", "--corpus", ROOT / "README.md", *short, "-o", "checkpoint")
    go("build", "--target", "host", "--precision", "int8", "checkpoint", "-o", "bundle")
    assert "tokens" in go("verify", "bundle")

    texts = {name: workstation.generate("bundle", name) for name in ("native", "ort", "reference")}
    assert len(set(texts.values())) == 1, texts
