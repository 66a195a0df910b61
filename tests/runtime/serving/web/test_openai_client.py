"""OpenAI's own Python client against a real server: what it does with theirs works here."""

import contextlib
import time

import pytest
from doubles import native_bundle
from serving_stand import stand

from merino_edge.runtime import GenerationConfig, load

openai = pytest.importorskip("openai", reason="the official client: pip install openai")

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def bundle(native_library, tmp_path_factory):
    return native_bundle(tmp_path_factory.mktemp("openai") / "bundle")


@pytest.fixture(scope="module")
def service(bundle):
    with stand(bundle, 2) as service:
        yield service


@pytest.fixture
def client(service):
    address = f"http://127.0.0.1:{service.server.port}/v1"
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def expected(bundle):
    """Text of a session alone."""
    with load(bundle) as session:

        def text(prompt, n, **fields):
            config = GenerationConfig.from_defaults(
                session.manifest.generation, max_new_tokens=n, **fields
            )
            pieces = session.chat if isinstance(prompt, list) else session.stream
            return "".join(pieces(prompt, config))

        yield text


def wait_until(condition, seconds=5.0):
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_models_are_listed_and_found_by_name(client):
    (model,) = client.models.list().data
    assert (model.id, model.owned_by) == ("tiny", "merino-edge")
    assert client.models.retrieve("tiny").id == "tiny"


def test_a_completion_is_what_a_session_gives(client, expected):
    found = client.completions.create(model="tiny", prompt="The sheep", max_tokens=8)
    assert found.object == "text_completion"
    assert found.choices[0].text == expected("The sheep", 8)
    assert found.choices[0].finish_reason == "length"
    assert found.usage.completion_tokens == 8
    assert found.usage.total_tokens == found.usage.prompt_tokens + 8


def test_a_completion_has_sixteen_tokens_unless_it_is_said(client):
    assert client.completions.create(model="tiny", prompt="a").usage.completion_tokens == 16


def test_a_chat_answers_and_says_who_speaks(client, expected):
    found = client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=6)
    assert found.choices[0].message.role == "assistant"
    assert found.choices[0].message.content == expected(MESSAGES, 6)


def test_text_may_come_in_parts_and_roles_by_their_new_name(client, expected):
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
    ]
    found = client.chat.completions.create(model="tiny", messages=messages, max_completion_tokens=6)
    assert found.choices[0].message.content == expected(MESSAGES, 6)


def test_a_stream_joined_is_the_whole_answer(client, expected):
    parts = list(
        client.chat.completions.create(
            model="tiny",
            messages=MESSAGES,
            max_tokens=6,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    deltas = [part.choices[0].delta for part in parts if part.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == expected(MESSAGES, 6)
    assert [p.choices[0].finish_reason for p in parts if p.choices][-1] == "length"
    assert parts[-1].choices == []
    assert parts[-1].usage.completion_tokens == 6
    assert len({part.id for part in parts}) == 1


def test_a_completion_streams_too(client, expected):
    parts = client.completions.create(model="tiny", prompt="a", max_tokens=9, stream=True)
    assert "".join(part.choices[0].text for part in parts) == expected("a", 9)


def test_same_seed_same_text_and_no_seed_another(client):
    def drawn(**words):
        found = client.completions.create(
            model="tiny", prompt="a", max_tokens=20, temperature=2.0, **words
        )
        return found.choices[0].text

    assert drawn(seed=5) == drawn(seed=5) == drawn(seed=5 - 2**32)
    assert drawn() != drawn()


def test_temperature_zero_is_greedy(client, expected):
    found = client.completions.create(model="tiny", prompt="a", max_tokens=9, temperature=0)
    assert found.choices[0].text == expected("a", 9)


def test_stop_ends_the_text_before_it(client, expected):
    whole = expected("The sheep", 12)
    found = client.completions.create(
        model="tiny", prompt="The sheep", max_tokens=12, stop=[whole[4:6]]
    )
    assert found.choices[0].text == whole[: whole.index(whole[4:6])]
    assert found.choices[0].finish_reason == "stop"


def test_what_was_not_measured_is_null_and_times_are_told(client):
    found = client.completions.create(model="tiny", prompt="a", max_tokens=5).model_dump()
    assert found["usage"]["energy_mj_per_token"] is None
    assert found["timings"]["ttft_ms"] > 0
    assert found["timings"]["decode_tok_per_s"] > 0
    assert found["timings"]["ended_by"] == "length"


def test_token_ids_are_taken_and_given(client):
    found = client.completions.create(
        model="tiny", prompt=[5, 6, 7], max_tokens=4, extra_body={"return_token_ids": True}
    )
    assert found.usage.prompt_tokens == 3
    assert len(found.choices[0].model_dump()["token_ids"]) == 4


def test_closing_a_stream_stops_the_model(client, service):
    cancelled = service.measures.metrics
    before = cancelled.value("merino_edge_generations_total", reason="cancelled")
    stream = client.completions.create(
        model="tiny", prompt="a", max_tokens=45, stream=True, extra_body={"min_tokens": 45}
    )
    with contextlib.closing(stream):
        next(iter(stream))
    wait_until(lambda: service.scheduler.n_running == 0)
    after = cancelled.value("merino_edge_generations_total", reason="cancelled")
    assert after in (before, before + 1)  # a tiny model may have been faster than the client


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"n": 2}, openai.BadRequestError, "n"),
        ({"logprobs": 3}, openai.BadRequestError, "logprobs"),
        ({"echo": True}, openai.BadRequestError, "echo"),
        ({"temperature": 3}, openai.BadRequestError, "temperature"),
        ({"presence_penalty": 0.5}, openai.BadRequestError, "presence_penalty"),
        ({"prompt": ["a", "b"]}, openai.BadRequestError, "prompt"),
        ({"max_tokens": 0}, openai.BadRequestError, None),
        ({"prompt": "a " * 100}, openai.BadRequestError, None),
        ({"model": "gpt-5"}, openai.NotFoundError, "model"),
        ({"extra_body": {"speed": 9}}, openai.BadRequestError, "speed"),
    ],
)
def test_what_cannot_be_is_an_error_that_names_the_field(client, fields, error, param):
    with pytest.raises(error) as caught:
        client.completions.create(**{"model": "tiny", "prompt": "a", **fields})
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_tools_and_images_are_refused_by_name(client):
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    messages = [{"role": "user", "content": [image]}]
    with pytest.raises(openai.BadRequestError, match="parts of the type text only"):
        client.chat.completions.create(model="tiny", messages=messages)
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with pytest.raises(openai.BadRequestError, match="tools is not supported"):
        client.chat.completions.create(model="tiny", messages=MESSAGES, tools=[tool])
