"""The two example firmwares: the text of a Python session, and nothing that valgrind or a sanitizer
has to say, whatever comes in."""

import os
import shutil
import signal
import socket
import subprocess
import threading

import pytest
from firmware_build import MEMCHECK, SANITIZERS, compiled, need, run
from repository import ROOT

from merino_edge.runtime import GenerationConfig, load
from merino_edge.runtime.serving.pool import open_sessions
from merino_edge.runtime.serving.socket_service import serving_socket

INSTRUCTION, REQUESTS = [5, 3], [[1, 2], [7], [1, 2]]
N_TOKENS = 12
PROMPTS = ["The sheep", "Grüße 🐑", 'a "quoted" \\ line']
NONSENSE = b"-1\nsheep\n 7 sheep\n\n99999999999999999999\n300\n" + b"1 " * 4200 + b"\n" + b"1 " * 47
BUDGET_MS = 60_000


def checked(folder, app, how):
    """The command of a program under a checker."""
    if how == "valgrind":
        need("valgrind")
        return [*MEMCHECK, compiled(folder, app)]
    return [compiled(folder, app, how, *SANITIZERS)] if how != "plain" else [compiled(folder, app)]


@pytest.fixture(scope="module", params=["plain", "gcc", "clang", "valgrind"])
def embedded(request, tmp_path_factory):
    return checked(tmp_path_factory.mktemp(request.param), "embedded_app", request.param)


@pytest.fixture(scope="module", params=["plain", "gcc", "clang", "valgrind"])
def asking(request, tmp_path_factory):
    return checked(tmp_path_factory.mktemp(request.param), "socket_app", request.param)


@pytest.fixture(scope="module")
def expected(bundle, native_library):
    """Prompt (ids or text) -> what a Python session continues it with."""
    config = GenerationConfig(max_new_tokens=N_TOKENS)
    with load(bundle, "native") as session:
        ids = [INSTRUCTION + each for each in REQUESTS]
        texts = {str(each): "".join(session.generate(each, config).pieces()) for each in ids}
        texts.update((each, "".join(session.stream(each, config))) for each in PROMPTS)
    return texts


def embed(program, bundle, lines, budget_ms=BUDGET_MS, n_tokens=N_TOKENS):
    files = [os.path.join(bundle, name) for name in ("model.merino", "pieces.bin")]
    return run(*program, *files, budget_ms, n_tokens, input=lines)


def lines_of(rows):
    return "".join(" ".join(map(str, row)) + "\n" for row in rows).encode()


def test_the_embedded_decoder_answers_behind_its_instruction(embedded, bundle, expected):
    done = embed(embedded, bundle, lines_of([INSTRUCTION, *REQUESTS]))
    wanted = [expected[str(INSTRUCTION + each)] for each in REQUESTS]
    assert done.stdout.decode("utf-8", "replace") == "".join(text + "\n" for text in wanted)
    assert b"no more will be taken" in done.stderr


def test_nonsense_is_refused_and_the_next_request_is_none_the_worse(embedded, bundle, expected):
    asked = lines_of([INSTRUCTION]) + NONSENSE + b"\n" + lines_of(REQUESTS[:1])
    done = embed(embedded, bundle, asked)
    last = done.stdout.decode("utf-8", "replace").splitlines()[-1]
    assert expected[str(INSTRUCTION + REQUESTS[0])].endswith(last)
    assert done.stderr.count(b"refused") == 6
    assert b"context is full" in done.stderr


def test_an_answer_is_cut_when_its_time_is_over(embedded, bundle):
    done = embed(embedded, bundle, lines_of([INSTRUCTION, [7]]), budget_ms=-1)
    assert done.stdout == b"\n"
    assert b"its time was over" in done.stderr


def test_what_is_no_model_is_refused(embedded, bundle):
    no_model = os.path.join(bundle, "tokenizer.json")
    words = [*embedded, no_model, os.path.join(bundle, "pieces.bin"), 1, 1]
    done = subprocess.run(list(map(str, words)), capture_output=True, input=b"", timeout=60)
    assert done.returncode == 1
    assert b"Sanitizer" not in done.stderr


def test_sigterm_ends_it_while_it_waits(embedded, bundle):
    files = [os.path.join(bundle, name) for name in ("model.merino", "pieces.bin")]
    words = list(map(str, [*embedded, *files, BUDGET_MS, N_TOKENS]))
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(lines_of([INSTRUCTION, [7]]))
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_the_socket_client_gets_the_text_of_a_session(asking, served, expected):
    done = run(*asking, served, BUDGET_MS, N_TOKENS, input="\n".join(PROMPTS).encode())
    wanted = "".join(expected[each] + "\n" for each in PROMPTS)
    assert done.stdout.decode("utf-8") == wanted


def test_a_refusal_and_a_deadline_are_said_and_harm_nothing(asking, served, expected):
    asked = "x" * 3000 + "\n" + PROMPTS[0]
    done = run(*asking, served, BUDGET_MS, N_TOKENS, input=asked.encode())
    assert done.stdout.decode("utf-8") == "\n" + expected[PROMPTS[0]] + "\n"
    assert b"(refused)" in done.stderr


def test_the_client_outlives_the_server(bundle, native_library, tmp_path, expected):
    path = str(tmp_path / "socket")
    program = compiled(tmp_path, "socket_app")
    words = [str(program), path, str(BUDGET_MS), str(N_TOKENS)]

    def served():
        return serving_socket(open_sessions(bundle, 1, "native", threads=1), path)

    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for _ in range(2):  # it also waits for a server that is not there yet
            with served():
                process.stdin.write(PROMPTS[0].encode() + b"\n")
                process.stdin.flush()
                assert process.stdout.readline().decode() == expected[PROMPTS[0]] + "\n"
        process.stdin.close()
        assert process.wait(60) == 0


STRANGE = [
    b"",
    b"\n",
    b"{}\n",
    b"not json\n",
    b'{"event":"hello","protocol":"merino-edge.socket/2"}\n',
    b'{"event":"hello","protocol":"merino-edge.socket/1"}\n{"event":"token","id":1,"text":"\\u12',
    b'{"event":"hello","protocol":"merino-edge.socket/1"}\n' + b"x" * 20_000 + b"\n{}\n",
    b'{"event":"hello","protocol":"merino-edge.socket/1"}\n{"a":[{"b":"]}"}],"id":1e9999999}\n',
    b'{"event":"hello","protocol":"merino-edge.socket/1"}\n{"text":"\\ud83d\\ud83d\\x"}\n',
    b'{"event":"hello","protocol":"merino-edge.socket/1"}\n{"event":"token"\0,"id":1}\n',
]


@pytest.mark.parametrize("how", ["gcc", "valgrind"])
def test_a_strange_server_does_not_break_the_client(how, tmp_path):
    """Whatever is said, once and then no more: the client listens to the end and tells."""
    program = checked(tmp_path, "listener", how)
    for i, said in enumerate(STRANGE):
        path = str(tmp_path / f"strange{i}")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen(1)
            thread = threading.Thread(target=speak, args=(server, said), daemon=True)
            thread.start()
            heard = run(*program, path).stdout
            thread.join()
        assert heard.startswith(b"opened" if b"socket/1" in said else b"not opened"), said


def speak(server, said):
    connection, _ = server.accept()
    with connection:
        connection.sendall(said)


def test_the_pages_commands_compile_as_they_stand(tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here (cc)")
    page = (ROOT / "jetson/firmware/README.md").read_text("utf-8")
    (commands,) = [part for part in page.split("```") if part.startswith("sh\ncc ")]
    for name in ("merino_edge", "jetson"):
        (tmp_path / name).symlink_to(ROOT / name)
    run("sh", "-ec", commands[3:], cwd=tmp_path)
    assert (tmp_path / "embedded_app").exists()
    assert (tmp_path / "socket_app").exists()
