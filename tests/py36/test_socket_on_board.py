"""The socket under the board's Python: a program asks, hears every event, and the server ends."""

import os

import pytest
from socket_client import SocketClient, text_of

from merino_edge.runtime import GenerationConfig, load
from merino_edge.runtime.serving.pool import open_sessions
from merino_edge.runtime.serving.socket_service import serving_socket

GOLDEN_BUNDLE = os.path.join(os.path.dirname(__file__), "..", "golden", "tiny-bundle")


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "socket")
    with serving_socket(open_sessions(GOLDEN_BUNDLE, 1, "reference"), path):
        yield path


def test_a_request_goes_there_and_comes_back_as_a_session_gives_it(path):
    with load(GOLDEN_BUNDLE, backend="reference") as session:
        prompt = session.manifest.golden[0].prompt
        expected = "".join(session.stream(prompt, GenerationConfig(max_new_tokens=5)))
    with SocketClient(path) as client:
        assert client.hello["protocol"] == "merino-edge.socket/1"
        events = client.ask(op="generate", id=1, prompt=prompt, max_new_tokens=5)
        kinds = [event["event"] for event in events]
        assert (kinds[0], kinds[-1]) == ("accepted", "done")
        assert text_of(events) == expected


def test_a_wrong_line_is_answered_and_the_next_one_heard(path):
    with SocketClient(path) as client:
        client.send(b"{", {"id": 7}, {"op": "ping", "id": 8})
        answers = [client.next() for _ in range(3)]
        assert [each.get("code") for each in answers] == ["bad_line", "unknown_op", None]
        assert answers[2] == {"id": 8, "event": "pong"}


def test_the_end_is_said_and_the_file_is_gone(tmp_path):
    path = str(tmp_path / "socket")
    with serving_socket(open_sessions(GOLDEN_BUNDLE, 1, "reference"), path):
        client = SocketClient(path)
    with client:
        assert client.next() is None
    assert not os.path.exists(path)
