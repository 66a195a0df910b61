"""Clients that are slow, broken, greedy or gone: each gets its answer, and nobody else notices."""

import contextlib
import json
import threading
import time

import pytest
from doubles import native_bundle
from serving_stand import answer, asked, connect, head_of, post_bytes, stand

from merino_edge.runtime.serving.scheduler import Limits, Observer
from merino_edge.runtime.serving.web.limits import WebLimits

GOOD = {"prompt": "The sheep", "max_tokens": 8}
HASTY = WebLimits(
    connections=4, body_bytes=4096, head_bytes=4096, head_s=0.4, body_s=0.4, idle_s=0.4, send_s=0.4
)


@pytest.fixture(scope="module")
def bundle(native_library, tmp_path_factory):
    return native_bundle(tmp_path_factory.mktemp("strangers") / "bundle")


@pytest.fixture(scope="module")
def service(bundle):
    with stand(bundle, 2) as service:
        yield service


@pytest.fixture(scope="module")
def hasty(bundle):
    """A server that waits for nobody."""
    with stand(bundle, 2, web_limits=HASTY, limits=Limits(queue=2)) as service:
        yield service


@pytest.fixture
def slow_tokens(monkeypatch):
    """Each token takes 30 ms, so that a test can act in between."""
    given = Observer.given
    monkeypatch.setattr(
        "merino_edge.runtime.serving.measures.Measures.given",
        lambda *words: (time.sleep(0.03), given(*words))[1],
    )


def good_text(service):
    status, _, found = asked(service, post_bytes("/v1/completions", GOOD))
    assert status == 200
    return found["choices"][0]["text"]


def wait_until(condition, seconds=5.0):
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 40 + b"\r\n\r\n", 400, "bad_request"),
        (b"GET\r\n\r\n", 400, "bad_request"),
        (b"\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "bad_request"),
        (head_of("GET", "/nothing"), 404, "not_found"),
        (head_of("GET", "/../../etc/passwd"), 404, "not_found"),
        (head_of("DELETE", "/v1/models"), 405, "method_not_allowed"),
        (head_of("OPTIONS", "/v1/completions"), 405, "method_not_allowed"),
        (head_of("GET", "/v1/completions"), 405, "method_not_allowed"),
        (head_of("POST", "/v1/completions"), 415, "unsupported_media_type"),
        (head_of("POST", "/v1/completions", "Content-Type: application/json"), 411, None),
        (head_of("POST", "/v1/completions", "Content-Length: -1"), 400, "bad_request"),
        (head_of("POST", "/v1/completions", "Content-Length: 1\r\nContent-Length: 2"), 400, None),
        (head_of("POST", "/v1/completions", "Transfer-Encoding: chunked"), 411, None),
        (head_of("POST", "/v1/completions", "Content-Length: " + "9" * 30), 413, "body_too_large"),
        (post_bytes("/v1/completions", b"{"), 400, "invalid_json"),
        (post_bytes("/v1/completions", b"\xff"), 400, "invalid_json"),
        (post_bytes("/v1/completions", b"[" * 5000), 400, "invalid_json"),
        (post_bytes("/v1/completions", b'{"prompt": "\\ud800"}'), 400, "invalid_json"),
        (post_bytes("/v1/completions", b'{"temperature": NaN}'), 400, "invalid_json"),
        (post_bytes("/v1/completions", b'{"seed": ' + b"9" * 5000 + b"}"), 400, "invalid_json"),
        (post_bytes("/v1/completions", b"[]"), 400, "invalid_json"),
    ],
)
def test_garbage_is_named_and_harms_nobody(service, data, status, code):
    found, headers, document = asked(service, data)
    assert found == status
    assert code is None or document["error"]["code"] == code
    assert headers["content-type"] == "application/json"
    assert good_text(service) == good_text(service)


def test_a_body_of_100_megabytes_is_refused_and_not_kept(service):
    from merino_edge.runtime.serving.measures import resident_bytes

    before = resident_bytes()
    with contextlib.closing(connect(service)) as connection:
        connection.sendall(
            head_of(
                "POST",
                "/v1/completions",
                "Content-Type: application/json",
                "Content-Length: 100000000",
            )
        )
        part, sent = b" " * 1_000_000, 0
        with contextlib.suppress(OSError):  # the server may stop listening to it
            while sent < 100_000_000:
                connection.sendall(part)
                sent += len(part)
        status, headers, body = answer(connection)
    assert status == 413
    assert json.loads(body)["error"]["code"] == "body_too_large"
    assert headers["connection"] == "close"
    assert resident_bytes() - before < 20_000_000
    assert good_text(service)


def test_a_body_that_is_announced_is_refused_before_it_is_sent(service):
    words = ("Content-Type: application/json", "Content-Length: 999999", "Expect: 100-continue")
    status, _, _ = asked(service, head_of("POST", "/v1/completions", *words))
    assert status == 413


def test_a_body_that_waits_for_permission_gets_it(service):
    whole = post_bytes("/v1/completions", GOOD, "Expect: 100-continue")
    head, _, body = whole.partition(b"\r\n\r\n")
    with contextlib.closing(connect(service)) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert answer(connection)[0] == 200


def test_one_connection_serves_many_requests(service):
    with contextlib.closing(connect(service)) as connection:
        for request in (post_bytes("/v1/completions", GOOD), head_of("GET", "/health")) * 3:
            connection.sendall(request)
            assert answer(connection)[0] == 200


def test_a_head_that_drips_is_given_up(hasty):
    with contextlib.closing(connect(hasty)) as connection:
        begun_s = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in head_of("GET", "/health")[:40]:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        status, _, _ = answer(connection)
    assert status == 408
    assert time.monotonic() - begun_s < 5


def test_a_body_that_drips_is_given_up_and_others_go_on(hasty):
    whole = post_bytes("/v1/completions", GOOD)
    with contextlib.closing(connect(hasty)) as connection:
        connection.sendall(whole[:-10])
        assert good_text(hasty)
        assert answer(connection)[0] == 408


def test_a_head_that_never_ends_is_given_up(hasty):
    status, _, _ = asked(hasty, b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 5000)
    assert status == 431


def test_a_silent_connection_is_closed(hasty):
    with contextlib.closing(connect(hasty)) as connection:
        assert connection.recv(1) == b""


def test_a_crowd_is_told_so_while_health_still_answers(hasty):
    with contextlib.ExitStack() as opened:
        crowd = [opened.enter_context(contextlib.closing(connect(hasty))) for _ in range(4)]
        wait_until(lambda: hasty.server.n_open >= 4)
        status, headers, document = asked(hasty, head_of("GET", "/v1/models"))
        assert (status, document["error"]["code"]) == (503, "too_many_connections")
        assert headers["retry-after"] == "1"
        assert asked(hasty, head_of("GET", "/health"))[0] == 200
        assert len(crowd) == 4
    wait_until(lambda: hasty.server.n_open == 0)
    assert good_text(hasty)


def test_a_full_queue_is_503_with_a_time_to_come_back(hasty, slow_tokens):
    def ask():
        found.append(asked(hasty, post_bytes("/v1/completions", {**GOOD, "max_tokens": 20})))

    found = []
    with stand_of_room(hasty):
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    refused = [each for each in found if each[0] != 200]
    assert len(found) == 8
    assert {status for status, _, _ in refused} == {503}
    assert {d["error"]["code"] for _, _, d in refused} <= {"queue_full", "too_many_connections"}
    assert all(int(headers["retry-after"]) >= 1 for _, headers, _ in refused)


@contextlib.contextmanager
def stand_of_room(service):
    """As many connections as one likes, so that the queue is what is full."""
    before, service.server.api.limits = service.server.api.limits, WebLimits()
    yield
    service.server.api.limits = before


@pytest.mark.parametrize("stream", [True, False])
def test_who_hangs_up_frees_the_session(service, slow_tokens, stream):
    metrics = service.measures.metrics
    before = metrics.value("merino_edge_generations_total", reason="cancelled")
    with contextlib.closing(connect(service)) as connection:
        long = {**GOOD, "max_tokens": 45, "min_tokens": 45, "stream": stream}
        connection.sendall(post_bytes("/v1/completions", long))
        wait_until(lambda: service.scheduler.n_running == 1)
    counted = "merino_edge_generations_total"
    wait_until(lambda: metrics.value(counted, reason="cancelled") == before + 1)
    assert service.scheduler.n_running == 0


def test_who_does_not_read_is_given_up_while_others_are_answered(bundle):
    """Answers of 45 tokens never fill a socket, so this server's parts are made long."""
    with stand(bundle, 2, web_limits=HASTY._replace(connections=8)) as service:
        from merino_edge.runtime.serving.web import answering

        padded, event_bytes = b":" + b" " * 500_000 + b"\n\n", answering.event_bytes
        answering.event_bytes = lambda document: padded + event_bytes(document)
        try:
            with contextlib.closing(connect(service)) as connection:
                long = {**GOOD, "max_tokens": 45, "stream": True}
                connection.sendall(post_bytes("/v1/completions", long))
                wait_until(lambda: service.scheduler.n_running == 0)
                assert good_text(service)
                wait_until(lambda: service.server.n_open == 0)
        finally:
            answering.event_bytes = event_bytes


def test_the_time_limit_cuts_an_answer_and_says_so(bundle, slow_tokens):
    with stand(bundle, 1, web_limits=WebLimits(request_s=0.3)) as service:
        long = {**GOOD, "max_tokens": 45, "min_tokens": 45}
        status, _, found = asked(service, post_bytes("/v1/completions", long))
    assert (status, found["choices"][0]["finish_reason"]) == (200, "length")
    assert found["timings"]["ended_by"] == "deadline"
    assert 0 < found["usage"]["completion_tokens"] < 45


def test_stopping_ends_a_stream_with_its_reason(bundle, slow_tokens):
    with stand(bundle, 1) as service, contextlib.closing(connect(service)) as connection:
        long = {**GOOD, "max_tokens": 45, "min_tokens": 45, "stream": True}
        connection.sendall(post_bytes("/v1/completions", long))
        data = connection.recv(65536)
        service.stop()
        while b"[DONE]" not in data:
            data += connection.recv(65536) or pytest.fail("the stream broke off")
    assert b'"code":"server_stopping"' in data


def test_an_old_client_gets_a_stream_without_chunks(service):
    request = post_bytes("/v1/completions", {**GOOD, "stream": True})
    with contextlib.closing(connect(service)) as connection:
        connection.sendall(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
        data = b""
        while True:
            got = connection.recv(65536)
            if not got:
                break
            data += got
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")


def test_head_answers_without_a_body(service):
    with contextlib.closing(connect(service)) as connection:
        connection.sendall(head_of("HEAD", "/health") + head_of("GET", "/health"))
        data = connection.recv(65536)
        while data.count(b"\r\n\r\n") < 2 or b"ok" not in data:
            data += connection.recv(65536)
    assert data.count(b'"status":"ok"') == 1
