"""Requests that were bent by chance: each is answered, with 2xx or 4xx, and the server lives on."""

import json

import pytest
from doubles import native_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_stand import asked, connect, post_bytes, stand

from merino_edge.formats.manifest import GenerationDefaults
from merino_edge.runtime.serving.web.asked import chat_of, completion_of
from merino_edge.runtime.serving.web.json_body import json_of
from merino_edge.runtime.serving.web.limits import WebLimits
from merino_edge.runtime.serving.web.problem import Problem

FIELDS = [
    *("model", "prompt", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p"),
    *("top_k", "seed", "stop", "stream", "stream_options", "n", "user", "logprobs", "min_tokens"),
    *("echo", "suffix", "repetition_penalty", "return_token_ids", "logit_bias", "response_format"),
]
HASTY = WebLimits(head_s=0.3, body_s=0.3, idle_s=0.3)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["tiny", "The sheep", "user", "system", "text", 1, 0, 0.5, 5])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "include_usage"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), VALUES, max_size=6)


@pytest.fixture(scope="module")
def service(native_library, tmp_path_factory):
    path = native_bundle(tmp_path_factory.mktemp("mutated") / "bundle")
    with stand(path, 2, web_limits=HASTY) as service:
        yield service


def status_of(service, data):
    """Of what comes back; None where the connection was closed without a word."""
    with connect(service) as connection:
        connection.sendall(data)
        connection.shutdown(1)
        head = b""
        while True:
            got = connection.recv(65536)
            if not got:
                break
            head = head or got
    return int(head.split(b" ")[1]) if head else None


def problem_with(body, is_chat):
    try:
        fields = json_of(body)
        if is_chat:
            chat_of(fields, GenerationDefaults(), 48)
        else:
            completion_of(fields, GenerationDefaults())
    except Problem as problem:
        return problem
    return None


def examples(number):
    return settings(
        max_examples=number, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )


def is_understood_or_refused(document, is_chat):
    problem = problem_with(json.dumps(document).encode("utf-8"), is_chat)
    if problem is not None:
        assert 400 <= problem.status < 500
        assert json.loads(problem.reply().body)["error"]["message"]


def is_answered(service, document, is_chat):
    start = {"messages": [{"role": "user", "content": "a"}]} if is_chat else {"prompt": "a"}
    whole = {**start, "max_tokens": 3, **document, "stream": False}
    path = "/v1/chat/completions" if is_chat else "/v1/completions"
    status, _, found = asked(service, post_bytes(path, whole))
    assert status < 500
    assert ("error" in found) is (status >= 400)


def is_answered_or_closed(service, data):
    whole = post_bytes("/v1/completions", {"prompt": "a", "max_tokens": 2})
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    bent = whole[:start] + data.draw(st.binary(max_size=30)) + whole[end:]
    status = status_of(service, bent)
    assert status is None or status < 500


@examples(1000)
@given(DOCUMENTS, st.booleans())
def test_any_document_is_understood_or_refused(document, is_chat):
    is_understood_or_refused(document, is_chat)


@examples(60)
@given(DOCUMENTS, st.booleans())
def test_any_document_is_answered_by_the_server(service, document, is_chat):
    is_answered(service, document, is_chat)


@examples(60)
@given(st.data())
def test_any_bytes_are_answered_or_the_connection_is_closed(service, data):
    is_answered_or_closed(service, data)


@pytest.mark.slow
@examples(10_000)
@given(DOCUMENTS, st.booleans())
def test_ten_thousand_documents_are_understood_or_refused(document, is_chat):
    is_understood_or_refused(document, is_chat)


@pytest.mark.slow
@examples(5_000)
@given(DOCUMENTS, st.booleans())
def test_five_thousand_documents_are_answered_by_the_server(service, document, is_chat):
    is_answered(service, document, is_chat)


@pytest.mark.slow
@examples(5_000)
@given(st.data())
def test_five_thousand_bent_requests_are_answered_or_closed(service, data):
    is_answered_or_closed(service, data)


def test_after_all_that_it_still_answers(service):
    status, _, _ = asked(service, post_bytes("/v1/completions", {"prompt": "a", "max_tokens": 2}))
    assert status == 200
