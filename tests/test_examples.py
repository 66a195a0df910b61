"""The C example: forty lines, no warnings, the text of a Python session, and a page that runs."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from doubles import speaking_bundle
from repository import ROOT

from merino_edge.formats.pieces_file import write_pieces
from merino_edge.runtime import GenerationConfig, load

EXAMPLE = ROOT / "jetson/examples/stream_text.c"
PAGE = ROOT / "jetson/examples/README.md"
INCLUDE = ROOT / "merino_edge/native/include"
# Pedantic, because an old gcc takes what C99 says and no more.
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
STRICT = ["-std=c99", "-O2", "-pthread", *WARNINGS]
PROMPT, N_TOKENS = "The sheep", 64


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return speaking_bundle(tmp_path_factory.mktemp("example") / "bundle", seed=3)


@pytest.fixture(scope="module")
def session(bundle, native_library):
    with load(bundle, backend="native") as session:
        yield session


def text(session, n_tokens, **fields):
    config = GenerationConfig(max_new_tokens=n_tokens, **fields)
    return "".join(session.stream(PROMPT, config))


@pytest.fixture(scope="module", params=["gcc", "clang"])
def program(request, tmp_path_factory):
    """The example and the library it is linked with, both without a warning."""
    compiler, folder = request.param, tmp_path_factory.mktemp(request.param)
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler} here")
    archive, program = folder / "libmerino_edge.a", folder / "stream_text"
    build = [sys.executable, ROOT / "native_build.py", "archive", archive]
    environment = {**os.environ, "CC": compiler, "CFLAGS": " ".join(WARNINGS)}
    subprocess.run(build, check=True, env=environment)
    command = [compiler, *STRICT, f"-I{INCLUDE}", EXAMPLE, archive, "-lm", "-o", program]
    subprocess.run(command, check=True)
    return program


def streamed(program, bundle, n_tokens, ids, pieces="pieces.bin"):
    files = [os.path.join(bundle, name) for name in ("model.merino", pieces)]
    words = map(str, [program, *files, n_tokens, *ids])
    return subprocess.run(list(words), capture_output=True)


def test_the_example_has_at_most_forty_lines_of_code():
    code = re.sub(r"/\*.*?\*/", "", EXAMPLE.read_text("utf-8"), flags=re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 40


def test_the_example_streams_the_text_of_a_python_session(program, bundle, session):
    ids = session.encode_prompt(PROMPT)
    n_tokens = session.context_len - len(ids)
    for n in (1, n_tokens):
        done = streamed(program, bundle, n, ids)
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode("utf-8", "replace") == text(session, n)

    assert b"49" in streamed(program, bundle, n_tokens + 1, ids).stderr  # the context has 48


def test_the_example_stops_at_an_end_token_and_refuses_another_table(program, bundle, session):
    ids = session.encode_prompt(PROMPT)
    config = GenerationConfig(max_new_tokens=9, eos_token_ids=())
    end = list(session.generate(ids, config))[5]
    pieces = [b"%d " % number for number in range(300)]
    write_pieces(os.path.join(bundle, "ends.bin"), pieces, [299, end])
    stopped = session.generate(ids, config._replace(eos_token_ids=(end,)))

    expected = b"".join(pieces[number] for number in stopped)
    assert streamed(program, bundle, 9, ids, "ends.bin").stdout == expected
    assert b"damaged" in streamed(program, bundle, 9, ids, "tokenizer.json").stderr


def test_the_commands_of_the_page_run_as_they_stand(bundle, session, tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here (cc)")
    for name in ("merino_edge", "jetson"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "bundle").symlink_to(bundle)
    compile_it, run_it, _ = re.findall(r"^```sh\n(.+?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    shorter = run_it.replace(" 64 ", " 16 ")  # a tiny bundle has no room for 64
    environment = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-ec", compile_it + shorter], cwd=tmp_path, env=environment, capture_output=True
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("utf-8", "replace") == text(session, 16)
