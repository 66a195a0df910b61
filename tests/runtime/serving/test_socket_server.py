"""The socket, from both of its ends: a real model, real connections, and clients that misbehave."""

import json
import os
import random
import socket
import stat
import time

import pytest
from doubles import native_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from repository import ROOT
from socket_client import SocketClient, text_of, without_times

from merino_edge.errors import UsageError
from merino_edge.runtime import GenerationConfig, load
from merino_edge.runtime.serving.pool import open_sessions
from merino_edge.runtime.serving.scheduler import Scheduler
from merino_edge.runtime.serving.socket_requests import MAX_LINE_BYTES
from merino_edge.runtime.serving.socket_server import SocketServer
from merino_edge.runtime.serving.socket_service import serving_socket

TRANSCRIPTS = ROOT / "tests/golden/socket_transcripts.json"
N_MUTATED = 300
pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return native_bundle(tmp_path_factory.mktemp("socket") / "bundle", seed=3)


@pytest.fixture(scope="module")
def scheduler(bundle, native_library):
    with Scheduler(open_sessions(bundle, 2, "native", threads=1)) as scheduler:
        yield scheduler


@pytest.fixture
def path(scheduler, tmp_path):
    with SocketServer(scheduler, str(tmp_path / "socket"), max_connections=4):
        yield tmp_path / "socket"


@pytest.fixture
def client(path):
    with SocketClient(path) as client:
        yield client


def test_an_answer_is_what_a_session_of_ones_own_gives(client, bundle):
    config = GenerationConfig(max_new_tokens=20)
    with load(bundle, "native") as session:
        expected = "".join(session.stream("The sheep", config))
        drawn = config._replace(do_sample=True, top_k=5, seed=7)
        expected_drawn = "".join(session.stream("The sheep", drawn))

    assert (
        text_of(client.ask(op="generate", id=1, prompt="The sheep", max_new_tokens=20)) == expected
    )
    drawn = {"prompt": "The sheep", "max_new_tokens": 20, "top_k": 5, "seed": 7}
    assert text_of(client.ask(op="generate", id=1, **drawn)) == expected_drawn


def test_the_file_is_its_owners_alone_and_goes_with_the_server(scheduler, tmp_path):
    path = tmp_path / "socket"
    with SocketServer(scheduler, str(path)):
        mode = os.stat(path).st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    assert not path.exists()


def test_a_socket_that_a_crash_left_is_replaced(scheduler, tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with SocketServer(scheduler, str(path)), SocketClient(path) as client:
        client.send({"op": "ping"})
        assert client.next()["event"] == "pong"


def test_a_living_server_and_a_file_are_not_replaced(scheduler, path, tmp_path):
    with pytest.raises(UsageError, match="another server listens"):
        SocketServer(scheduler, str(path))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is no socket"):
        SocketServer(scheduler, str(tmp_path / "file"))
    with pytest.raises(UsageError, match="1 to 107 bytes"):
        SocketServer(scheduler, str(tmp_path / ("x" * 200)))


def test_requests_of_one_connection_run_together_and_keep_apart(client):
    alone = text_of(client.ask(op="generate", id=0, ids=[5, 3], max_new_tokens=30))
    client.send(*({"op": "generate", "id": i, "ids": [5, 3], "max_new_tokens": 30} for i in "ab"))
    events = []
    while sum(event["event"] == "done" for event in events) < 2:
        events.append(client.next())
    for name in "ab":
        assert text_of(event for event in events if event["id"] == name) == alone


def long_request(ask_id, **fields):
    return {"op": "generate", "id": ask_id, "ids": [5], "eos_token_ids": [], **fields}


def test_cancel_and_reset_end_what_is_open(client):
    client.send(long_request(1), {"op": "cancel", "id": 1})
    assert client.until_end(1)[-1]["finish_reason"] in ("cancelled", "length")

    client.send(*(long_request(i) for i in range(6)), {"op": "reset", "id": "r"})
    events = [client.next()]
    while events[-1]["event"] != "reset":
        events.append(client.next())
    assert events[-1]["n_cancelled"] <= 6
    ended = {event["id"] for event in events if event["event"] == "done"}
    assert ended == set(range(6))


def test_an_id_in_use_an_unknown_one_and_too_many_are_refused(client, scheduler):
    client.send(
        *(long_request(i, limit_ms=60e3) for i in range(8)), long_request(0), long_request(9)
    )
    client.send({"op": "cancel", "id": "nobody"}, {"op": "reset"})
    codes, event = [], {"event": ""}
    while event["event"] != "reset":
        event = client.next()
        codes += [event["code"]] if event["event"] == "error" else []
    assert codes[-1] == "unknown_id"
    # a tiny model may have answered some before the line came
    assert set(codes[:-1]) <= {"duplicate_id", "busy"}


def wait_until(condition, what):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(what)


def test_who_leaves_has_nothing_running(path, scheduler):
    client = SocketClient(path)
    client.send(*(long_request(i) for i in range(8)))
    client.close()
    wait_until(lambda: scheduler.n_running + scheduler.n_waiting == 0, "something still runs")


def test_one_client_too_many_is_told_so(path):
    clients = [SocketClient(path) for _ in range(4)]
    with SocketClient(path) as one_more:
        assert one_more.hello["code"] == "busy"
        assert one_more.next() is None
    for client in clients:
        client.close()

    def welcome():
        with SocketClient(path) as client:
            return client.hello["event"] == "hello"

    wait_until(welcome, "no room after others left")


def test_a_long_line_is_dropped_and_the_next_one_is_heard(client):
    for n_bytes in (MAX_LINE_BYTES + 1, 3 * MAX_LINE_BYTES):
        client.send(b"x" * n_bytes, {"op": "ping", "id": 1})
        assert client.next()["code"] == "line_too_long"
        assert client.next()["event"] == "pong"
    client.send(b" " * (MAX_LINE_BYTES - 13) + b'{"op":"ping"}')
    assert client.next()["event"] == "pong"


def test_every_event_fits_the_buffer_that_the_hello_names(client):
    client.send({"op": "x" * 9000}, {"op": "generate", "id": "\x1f" * 64, "prompt": "\x1f" * 9000})
    client.send({"op": "chat", "id": 3, "messages": [{"role": "\x1f" * 9000, "content": ""}]})
    for _ in range(3):
        line = client._lines.readline()
        assert json.loads(line)["event"] == "error"
        assert len(line) <= client.hello["max_event_bytes"]


def test_what_runs_when_the_service_stops_hears_its_end(bundle, native_library, tmp_path):
    sessions = open_sessions(bundle, 1, "native", threads=1)
    with serving_socket(sessions, str(tmp_path / "socket")) as scheduler:
        client = SocketClient(tmp_path / "socket")
        client.send(*(long_request(i) for i in range(8)))
        for _ in range(4):
            client.next()
        scheduler.stop(0.0)
    with client:
        heard = list(iter(client.next, None))
    assert sum(event["event"] in ("done", "error") for event in heard) >= 1
    assert {e["finish_reason"] for e in heard if e["event"] == "done"} <= {"stopping", "length"}


def test_stopping_the_server_ends_clients_and_what_they_asked(scheduler, tmp_path):
    with SocketServer(scheduler, str(tmp_path / "socket")), SocketClient(tmp_path / "socket") as c:
        c.send(*(long_request(i) for i in range(8)))
        assert c.next()["event"] == "accepted"
    wait_until(lambda: scheduler.n_running + scheduler.n_waiting == 0, "something still runs")


@pytest.fixture(scope="module")
def golden_server(tmp_path_factory):
    """The bundle that lies in the repository, on the slow backend: the same tokens everywhere."""
    path = tmp_path_factory.mktemp("golden") / "socket"
    sessions = open_sessions(str(ROOT / "tests/golden/tiny-bundle"), 1, "reference")
    with Scheduler(sessions) as scheduler, SocketServer(scheduler, str(path)):
        yield path


@pytest.mark.parametrize("name", sorted(json.loads(TRANSCRIPTS.read_text("utf-8"))))
def test_a_transcript_is_said_again_word_for_word(golden_server, name):
    turns = json.loads(TRANSCRIPTS.read_text("utf-8"))[name]
    with SocketClient(golden_server) as client:
        for turn in turns:
            if "client" in turn:
                client.send(turn["client"].encode("utf-8"))
            else:
                heard = client.hello if turn is turns[0] else client.next()
                assert without_times(heard) == turn["server"]


def test_the_page_of_the_protocol_has_every_word():
    page = (ROOT / "jetson/firmware/PROTOCOL.md").read_text("utf-8")
    said = json.loads(TRANSCRIPTS.read_text("utf-8"))
    for turn in (turn for turns in said.values() for turn in turns):
        for name in turn.get("server", {}):
            assert f"`{name}`" in page


SEEDS = [
    {"op": "generate", "id": 1, "prompt": "The sheep", "max_new_tokens": 3},
    {"op": "generate", "id": 2, "ids": [1, 2], "temperature": 0.5, "stop": ["a"], "limit_ms": 99},
    {"op": "chat", "id": "c", "messages": [{"role": "user", "content": "hi"}], "max_new_tokens": 2},
    {"op": "cancel", "id": 1},
    {"op": "stats"},
    {"op": "reset", "id": 5},
]


@st.composite
def mutated_line(draw):
    """A right line with some of its bytes changed, taken out or doubled."""
    line = bytearray(json.dumps(draw(st.sampled_from(SEEDS))).encode())
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(line) - 1)))
        what = draw(st.sampled_from(["set", "cut", "twice", "put"]))
        if what == "set":
            line[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif what == "cut":
            del line[at : at + draw(st.integers(1, 8))]
        elif what == "twice":
            line[at:at] = line[at : at + draw(st.integers(1, 20))]
        else:
            line[at:at] = draw(st.sampled_from([b'"', b"{", b"\\ud800", b"1e999", b"\0", b"\xf0"]))
    return bytes(line).replace(b"\n", b" ")


def answers(path, line):
    """What comes before the pong of a ping that is sent behind the line."""
    with SocketClient(path, timeout_s=20) as client:
        client.send(line, {"op": "ping", "id": "the end"})
        heard = [client.next()]
        while heard[-1] != {"id": "the end", "event": "pong"}:
            heard.append(client.next())
            assert heard[-1] is not None
        return heard[:-1]


def check_mutated(path, line):
    heard = answers(path, line)
    if not line.strip():
        assert heard == []
    else:
        # a request's "accepted" comes from another thread, and may come after the pong
        assert all(event["event"] in KINDS for event in heard)
        assert heard or b"generate" in line or b"chat" in line or b"cancel" in line


KINDS = {"accepted", "token", "done", "error", "pong", "reset", "stats"}
FEW = settings(
    max_examples=N_MUTATED,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FEW
@given(line=mutated_line())
def test_a_mutated_line_is_answered_and_the_next_one_heard(listening, line):
    check_mutated(listening, line)


@pytest.fixture(scope="module")
def listening(scheduler, tmp_path_factory):
    path = tmp_path_factory.mktemp("mutated") / "socket"
    with SocketServer(scheduler, str(path)):
        yield path


@pytest.mark.slow
def test_ten_thousand_mutated_lines(listening, scheduler):
    many = settings(FEW, max_examples=10_000)
    many(given(line=mutated_line())(lambda line: check_mutated(listening, line)))()
    wait_until(lambda: scheduler.n_running + scheduler.n_waiting == 0, "something still runs")


def test_noise_in_any_cut_harms_nobody_else(listening):
    rng = random.Random(5)
    with SocketClient(listening) as good:
        for _ in range(20):
            with SocketClient(listening) as bad:
                for _ in range(5):
                    bad.sock.sendall(rng.randbytes(rng.randrange(2000)))
            assert good.ask(op="generate", id=1, ids=[5], max_new_tokens=3)[-1]["event"] == "done"
