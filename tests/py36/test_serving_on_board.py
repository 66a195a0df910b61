"""The server under the board's Python: it listens, answers, streams, counts and stops."""

import contextlib
import json
import os

import pytest
from serving_stand import answer, asked, connect, head_of, post_bytes, stand

from merino_edge.runtime import GenerationConfig, load

GOLDEN_BUNDLE = os.path.join(os.path.dirname(__file__), "..", "golden", "tiny-bundle")


@pytest.fixture(scope="module")
def service():
    with stand(GOLDEN_BUNDLE, backend="reference") as service:
        yield service


def test_a_completion_is_what_a_session_gives(service):
    with load(GOLDEN_BUNDLE, backend="reference") as session:
        golden = session.manifest.golden[0]
        config = GenerationConfig(max_new_tokens=5, eos_token_ids=())
        expected = "".join(session.stream(golden.prompt, config))
    body = {"prompt": golden.prompt, "max_tokens": 5, "temperature": 0, "min_tokens": 5}
    status, _, found = asked(service, post_bytes("/v1/completions", body))
    assert status == 200
    assert found["usage"]["completion_tokens"] == 5
    assert found["choices"][0]["text"] == expected


def test_a_stream_comes_in_events_and_ends(service):
    body = {"prompt": "The sheep", "max_tokens": 3, "stream": True}
    with contextlib.closing(connect(service)) as connection:
        connection.sendall(post_bytes("/v1/completions", body))
        data = b""
        while b"0\r\n\r\n" not in data:
            data += connection.recv(65536)
    events = [line[6:] for line in data.split(b"\n") if line.startswith(b"data: ")]
    assert events[-1] == b"[DONE]"
    assert json.loads(events[-2].decode("utf-8"))["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head_of("GET", "/health"), 200),
        (head_of("GET", "/v1/models"), 200),
        (head_of("GET", "/nothing"), 404),
        (post_bytes("/v1/completions", b"{"), 400),
        (head_of("POST", "/v1/completions", "Content-Length: 999999999"), 413),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    ],
)
def test_strangers_get_their_answer(service, data, status):
    assert asked(service, data)[0] == status


def test_page_and_figures_are_there(service):
    for path, word in (("/", b"<!doctype html>"), ("/metrics", b"merino_edge_sessions 1")):
        with contextlib.closing(connect(service)) as connection:
            connection.sendall(head_of("GET", path))
            status, _, body = answer(connection)
        assert status == 200
        assert word in body
