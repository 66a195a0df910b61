"""Many requests on few sessions: the same texts, in turns, within limits, to one End each."""

import os
import threading
import time

import pytest
from doubles import native_bundle, tiny_bundle

from merino_edge.errors import BusyError, SessionError, UnsupportedError, UsageError
from merino_edge.runtime import GenerationConfig, load
from merino_edge.runtime.serving.job import End, Piece, Request
from merino_edge.runtime.serving.pool import open_sessions
from merino_edge.runtime.serving.scheduler import Limits, Observer, Scheduler

PROMPTS = ["The sheep", "A merino is", "Grüße aus", "the board " * 8]
CONFIG = GenerationConfig(max_new_tokens=12, eos_token_ids=())
LONG = GenerationConfig(max_new_tokens=40, eos_token_ids=())


@pytest.fixture(scope="module")
def bundle(native_library, tmp_path_factory):
    return native_bundle(tmp_path_factory.mktemp("scheduler") / "bundle")


@pytest.fixture
def scheduler(bundle):
    with Scheduler(open_sessions(bundle, 2)) as scheduler:
        yield scheduler


def text_of(ticket):
    events = list(ticket.events())
    assert [type(event) for event in events[-1:]] == [End]
    assert all(isinstance(event, Piece) for event in events[:-1])
    return "".join(event.text for event in events[:-1])


class Slow(Observer):
    """Makes each token take a while, so that a test can act in between."""

    def given(self, running, piece, since_s):
        time.sleep(0.01)


def test_texts_that_took_turns_are_those_of_a_session_alone(bundle, scheduler):
    with load(bundle) as alone:
        expected = [
            "".join(alone.stream(prompt, config))
            for prompt in PROMPTS
            for config in (CONFIG, CONFIG._replace(do_sample=True, top_k=20, seed=7))
        ]
    tickets = [
        scheduler.submit(Request(prompt, config, client=prompt))
        for prompt in PROMPTS
        for config in (CONFIG, CONFIG._replace(do_sample=True, top_k=20, seed=7))
    ]
    assert [text_of(ticket) for ticket in tickets] == expected


def test_a_prompt_longer_than_a_turn_is_read_in_several(bundle, scheduler, monkeypatch):
    monkeypatch.setattr("merino_edge.runtime.serving.scheduler.CHUNK", 3)
    with load(bundle) as alone:
        expected = "".join(alone.stream(PROMPTS[3], CONFIG))
    assert text_of(scheduler.submit(Request(PROMPTS[3], CONFIG))) == expected


def test_an_end_has_counts_and_times(scheduler):
    ticket = scheduler.submit(Request("The sheep", CONFIG))
    (*_, end) = ticket.events()
    assert (end.reason, end.error) == ("length", None)
    usage = end.usage
    assert (usage.n_prompt, usage.n_generated) == (len(ticket.ids), 12)
    assert 0 <= usage.queue_ms <= usage.ttft_ms
    assert usage.busy_ms > 0
    assert usage.decode_tok_per_s == pytest.approx(11e3 / usage.decode_ms)
    assert usage.energy_j is usage.energy_mj_per_token is None  # no rails here


def test_stop_strings_and_conversations_work_as_in_a_session(bundle, scheduler):
    messages = [{"role": "user", "content": "Hi"}]
    with load(bundle) as alone:
        whole = "".join(alone.stream("The sheep", CONFIG))
        chat = "".join(alone.chat(messages, CONFIG))
    ticket = scheduler.submit(Request("The sheep", CONFIG._replace(stop=(whole[3:5],))))
    assert text_of(ticket) == whole[: whole.index(whole[3:5])]
    assert ticket.end.reason == "stop"
    assert text_of(scheduler.submit(Request(messages, CONFIG))) == chat


def test_a_client_with_one_request_does_not_wait_for_another_with_many(bundle):
    with Scheduler(open_sessions(bundle, 1), observer=Slow()) as scheduler:
        many = [scheduler.submit(Request("a", CONFIG, client="greedy")) for _ in range(5)]
        one = scheduler.submit(Request("a", CONFIG, client="modest"))
        text_of(one)
        assert sum(ticket.end is not None for ticket in many) <= 2
        for ticket in many:
            text_of(ticket)


def test_what_is_too_much_is_refused_and_the_rest_goes_on(bundle):
    limits = Limits(queue=3, queue_per_client=2)
    with Scheduler(open_sessions(bundle, 1), limits, Slow()) as scheduler:
        first = scheduler.submit(Request("a", LONG, client="a"))
        while not scheduler.n_running:
            time.sleep(0.001)
        waiting = [scheduler.submit(Request("a", CONFIG, client="a")) for _ in range(2)]
        with pytest.raises(BusyError, match="2 requests of this client") as caught:
            scheduler.submit(Request("a", CONFIG, client="a"))
        assert caught.value.reason == "client"
        waiting.append(scheduler.submit(Request("a", CONFIG, client="b")))
        with pytest.raises(BusyError, match="3 requests are waiting") as caught:
            scheduler.submit(Request("a", CONFIG, client="c"))
        assert caught.value.reason == "queue"
        first.cancel()
        assert {ticket.end.reason for ticket in waiting if text_of(ticket)} == {"length"}


def test_cancelling_ends_what_waits_at_once_and_what_runs_at_its_next_token(bundle):
    with Scheduler(open_sessions(bundle, 1), observer=Slow()) as scheduler:
        runs = scheduler.submit(Request("a", LONG))
        runs.next_event(5.0)
        waits = scheduler.submit(Request("a", LONG))
        waits.cancel()
        assert waits.next_event(0).reason == "cancelled"
        runs.cancel()
        runs.cancel()
        (*_, end) = runs.events()
        assert end.reason == "cancelled"
        assert end.usage.n_generated < 40
        text_of(scheduler.submit(Request("a", CONFIG)))  # the session is free again


def test_a_deadline_ends_what_runs_and_what_waits(bundle):
    with Scheduler(open_sessions(bundle, 1), observer=Slow()) as scheduler:
        tickets = [scheduler.submit(Request("a", LONG, limit_s=0.15)) for _ in range(2)]
        ends = [list(ticket.events())[-1] for ticket in tickets]
        assert [end.reason for end in ends] == ["deadline", "deadline"]
        assert 0 < ends[0].usage.n_generated < 40
        assert ends[1].usage.ttft_ms is None


def test_stopping_ends_everything_with_a_reason_and_refuses_what_comes(bundle):
    scheduler = Scheduler(open_sessions(bundle, 1), observer=Slow())
    runs, waits = [scheduler.submit(Request("a", LONG)) for _ in range(2)]
    runs.next_event(5.0)
    scheduler.stop()
    assert [list(ticket.events())[-1].reason for ticket in (runs, waits)] == ["stopping"] * 2
    with pytest.raises(BusyError, match="stopping") as caught:
        scheduler.submit(Request("a", LONG))
    assert caught.value.reason == "stopping"
    assert not scheduler.is_well
    scheduler.close()


def test_within_its_grace_a_request_that_runs_ends_by_itself(bundle):
    scheduler = Scheduler(open_sessions(bundle, 1), observer=Slow())
    ticket = scheduler.submit(Request("a", CONFIG))
    ticket.next_event(5.0)
    scheduler.stop(grace_s=20.0)
    assert list(ticket.events())[-1].reason == "length"
    scheduler.close()


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        ("", SessionError, "the prompt is empty"),
        ("sheep " * 300, SessionError, "the limit is 48"),
        ([1, 300], SessionError, "token 300 is outside the vocabulary"),
        ([-1], SessionError, "token -1 is outside"),
        ([{"role": "pope", "content": ""}], SessionError, "role 'pope'"),
    ],
)
def test_a_prompt_that_cannot_run_is_refused_before_it_waits(scheduler, prompt, error, message):
    with pytest.raises(error, match=message):
        scheduler.submit(Request(prompt, CONFIG))
    assert scheduler.n_waiting == 0


def test_limits_cut_answers_and_refuse_prompts(bundle):
    with Scheduler(open_sessions(bundle, 1), Limits(prompt_tokens=4, max_new_tokens=3)) as tight:
        ticket = tight.submit(Request([1, 2, 3, 4], LONG))
        assert list(ticket.events())[-1].usage.n_generated == 3
        with pytest.raises(SessionError, match="5 tokens, the limit is 4"):
            tight.submit(Request([1, 2, 3, 4, 5], LONG))


def test_text_without_a_tokenizer_is_refused_and_ids_work(tmp_path):
    path = tiny_bundle(tmp_path / "bundle", tokenizer=False)
    with Scheduler(open_sessions(path)) as scheduler:
        with pytest.raises(UnsupportedError, match="no tokenizer"):
            scheduler.submit(Request("text", CONFIG))
        with pytest.raises(UnsupportedError, match="no tokenizer"):
            scheduler.submit(Request([1], CONFIG._replace(stop=("a",))))
        ticket = scheduler.submit(Request([1, 2], CONFIG))
        assert sum(len(event.token_ids) for event in list(ticket.events())[:-1]) == 12


def test_a_bug_in_one_request_ends_it_alone(bundle, monkeypatch):
    faults = []
    with Scheduler(open_sessions(bundle, 2), on_fault=faults.append, observer=Slow()) as scheduler:
        good = scheduler.submit(Request("a", LONG))
        good.next_event(5.0)
        free = scheduler._free[-1]
        monkeypatch.setattr(free, "prefill", lambda ids: 1 / 0)
        bad = list(scheduler.submit(Request("a", CONFIG)).events())
        assert bad[-1].reason == "error"
        assert "ZeroDivisionError" in faults[0]
        text_of(good)
        assert good.end.reason == "length"


def test_many_threads_that_ask_and_cancel_all_get_one_end(bundle):
    limits = Limits(queue=1000, queue_per_client=1000)
    reasons = []
    with Scheduler(open_sessions(bundle, 3), limits) as scheduler:

        def ask(number):
            for round_ in range(10):
                ticket = scheduler.submit(Request("a b", CONFIG, client=str(number % 3)))
                if (number + round_) % 3 == 0:
                    ticket.next_event(0.01)
                    ticket.cancel()
                reasons.append(list(ticket.events())[-1].reason)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert scheduler.n_running == scheduler.n_waiting == 0
    assert len(reasons) == 80
    assert set(reasons) <= {"length", "cancelled"}


def test_several_sessions_share_the_weights_and_let_them_go(native_library, tmp_path):
    bundle = native_bundle(tmp_path / "bundle")  # that nobody else has open
    sessions = open_sessions(bundle, 3)
    models = {session.backend._model.value for session in sessions}
    file = os.path.join(bundle, "model.merino")
    with open("/proc/self/maps") as maps:
        assert sum(file in line for line in maps) == 1
    assert len(models) == 1
    for session in sessions:
        session.close()
    with open("/proc/self/maps") as maps:
        assert not any(file in line for line in maps)


def test_several_sessions_of_another_backend_are_refused(tmp_path):
    path = tiny_bundle(tmp_path / "bundle")
    assert len(open_sessions(path)) == 1
    with pytest.raises(UsageError, match="3 sessions need the native backend, this is reference"):
        open_sessions(path, 3)
