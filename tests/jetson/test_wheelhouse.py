"""The board's kit: complete, named by its hashes, and installed by setup.sh under Python 3.6.

What needs a package index is slow; the plain tier looks at the pinned file and at refusals.
"""

import re
import subprocess
import sys
import zipfile

import pytest
from board_root import Board, load_wheelhouse, write_wheel
from package_builds import needs_index
from repository import ROOT, find_python

wheelhouse = load_wheelhouse()
PINNED = (ROOT / "jetson/requirements-py36.txt").read_text("utf-8")
MAIN = f"{ROOT}/jetson/wheelhouse.py"


def make(tmp_path_factory, machine):
    needs_index()
    output = tmp_path_factory.mktemp(machine) / "dist/board-kit"
    wheelhouse.make_kit(output, machine=machine)
    return output


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    return make(tmp_path_factory, "aarch64")


@pytest.fixture(scope="module")
def x86_kit(tmp_path_factory):
    return make(tmp_path_factory, "x86_64")


def test_every_pinned_package_has_hashes_and_is_what_setup_py_asks_of_python_36():
    pins = dict(re.findall(r"^(\w+)==(\S+) \\$", PINNED, re.M))
    without = re.findall(r"^\w+==\S+$", PINNED, re.M)
    assert without == []
    assert len(re.findall("--hash=sha256:[0-9a-f]{64}(?: |$)", PINNED, re.M)) >= len(pins)
    assert pins["pip"] == "21.3.1"
    text = (ROOT / "setup.py").read_text("utf-8")
    assert f'"tokenizers=={pins["tokenizers"]}" + OLD' in text
    assert f'"onnxruntime=={pins["onnxruntime"]}" + OLD' in text
    assert pins["numpy"].startswith("1.19.")


def test_our_own_wheel_is_pinned_by_its_hash(tmp_path):
    wheel = write_wheel(tmp_path, "1.0")
    line = wheelhouse.pinned(wheel)
    assert re.fullmatch(r"merino-edge==1\.0 --hash=sha256:[0-9a-f]{64}", line)
    assert line.endswith(wheelhouse.sha256(wheel))


def test_a_folder_that_is_no_kit_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    command = [sys.executable, MAIN, "-o", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{tmp_path} is there already, and is no board kit" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_kit_brings_all_that_setup_reads_and_nothing_that_a_board_does_not_need(tmp_path):
    wheelhouse.copy_kit(tmp_path / "kit")
    names = {
        path.relative_to(tmp_path / "kit").as_posix() for path in (tmp_path / "kit").rglob("*")
    }
    assert {"setup.sh", "steps/journal.sh", "units/merino-edge.service", "README.md"} <= names
    assert not {name for name in names if name.endswith((".c", ".py", ".pyc"))}
    assert (tmp_path / "kit/setup.sh").stat().st_mode & 0o111


@pytest.mark.slow
def test_the_kit_holds_a_wheel_of_every_pin_for_python_36_on_aarch64(kit):
    wheels = {path.name for path in (kit / "wheelhouse").glob("*.whl")}
    pins = re.findall(r"^(\w+)==(\S+)", PINNED, re.M)
    for name, version in pins:
        assert any(wheel.startswith(f"{name}-{version}-") for wheel in wheels), name
    assert len(wheels) == len(pins) + 1
    assert all("aarch64" in wheel or wheel.endswith("-none-any.whl") for wheel in wheels)
    (ours,) = (kit / "wheelhouse").glob("merino_edge*")
    with zipfile.ZipFile(ours) as archive:
        library = archive.read("merino_edge/native/lib/libmerino_edge.so")
    assert library[:4] == b"\x7fELF"
    assert int.from_bytes(library[18:20], "little") == 183  # EM_AARCH64


@pytest.mark.slow
def test_the_kit_is_whole_by_its_own_sums(kit):
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=kit)
    assert done.returncode == 0
    listed = {line.split("  ")[1] for line in (kit / "SHA256SUMS").read_text().splitlines()}
    files = {p.relative_to(kit).as_posix() for p in kit.rglob("*") if p.is_file()}
    assert files == listed | {"SHA256SUMS"}


@pytest.mark.slow
@pytest.mark.py36
def test_the_boards_own_pip_on_its_own_python_resolves_it_without_an_index(kit, tmp_path):
    """pip 21.3.1 under Python 3.6, where the markers of our wheel are the board's."""
    env = {"PYTHONPATH": f"{kit}/wheelhouse/pip-21.3.1-py3-none-any.whl", "PATH": "/usr/bin:/bin"}
    python = find_python("3.6")
    words = ["-m", "pip", "download", "-q", "--no-index", f"--find-links={kit}/wheelhouse"]
    words += ["--require-hashes", f"-r{kit}/wheelhouse/requirements.txt", f"-d{tmp_path}"]
    command = [python, *words, *wheelhouse.platform_options()]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    resolved = {path.name for path in tmp_path.iterdir()}
    assert resolved == {path.name for path in (kit / "wheelhouse").glob("*.whl")}


@pytest.mark.slow
@pytest.mark.py36
def test_setup_installs_the_real_thing_and_it_runs(x86_kit, tmp_path):
    board = Board(tmp_path, find_python("3.6"))
    before = board.snapshot()
    words = [x86_kit / "setup.sh", "--python", board.python]
    done = board.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr

    bin_folder = board.root / "opt/merino-edge/env/bin"
    check = "import merino_edge.runtime, numpy, onnxruntime, tokenizers, nacl.signing, pip; "
    check += "from merino_edge.runtime.native_library import NativeLibrary as N; "
    check += "print(pip.__version__, numpy.__version__, N().kernels()[-1])"
    asked = subprocess.run([bin_folder / "python", "-c", check], capture_output=True, text=True)
    assert asked.stdout.split()[:2] == ["21.3.1", "1.19.5"], asked.stderr
    program = [bin_folder / "merino-edge", "--help"]
    assert "doctor" in subprocess.run(program, capture_output=True, text=True, check=True).stdout

    assert board.run(*words).stdout.count("nothing to do") == 4
    board.run(*words, "--undo")
    assert board.snapshot() == before


@pytest.mark.slow
@pytest.mark.py36
def test_without_a_wheelhouse_setup_takes_index_and_checkout(tmp_path):
    needs_index()
    board = Board(tmp_path, find_python("3.6"))
    words = [ROOT / "jetson/setup.sh", "--python", board.python, "--swap", "0"]
    done = board.run(*words, network=True)
    assert done.returncode == 0, done.stdout + done.stderr
    program = [board.root / "opt/merino-edge/env/bin/merino-edge", "--help"]
    assert "doctor" in subprocess.run(program, capture_output=True, text=True, check=True).stdout
