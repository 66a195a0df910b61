"""What systemd hears from a service, with a socket in its place that keeps every message."""

import os
import socket
import threading
import time

import pytest

from merino_edge.runtime.service_notify import notify, service, watchdog_interval_s


class Listener:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address):
        """Listen at a path, or at an abstract name that begins with a zero byte."""
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.door.bind(address)
        self.door.settimeout(5)

    def next(self):
        """The next message; fails after five seconds."""
        return self.door.recv(4096).decode("utf-8")

    def all(self):
        """Every message that has come."""
        found = []
        self.door.setblocking(False)
        while True:
            try:
                found.append(self.next())
            except BlockingIOError:
                return found


@pytest.fixture
def listener(tmp_path):
    listener = Listener(str(tmp_path / "notify"))
    listener.variables = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    yield listener
    listener.door.close()


def test_a_message_reaches_the_socket_that_systemd_names(listener):
    assert notify("READY=1\nSTATUS=größer", listener.variables)
    assert listener.next() == "READY=1\nSTATUS=größer"


def test_a_name_that_begins_with_an_at_sign_is_an_abstract_one():
    name = f"merino-edge-test-{os.getpid()}"
    listener = Listener("\0" + name)
    try:
        assert notify("READY=1", {"NOTIFY_SOCKET": "@" + name})
        assert listener.next() == "READY=1"
    finally:
        listener.door.close()


@pytest.mark.parametrize(
    "variables",
    [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": "/no/such"}],
)
def test_without_a_listener_nothing_happens_and_nothing_is_raised(variables):
    assert notify("READY=1", variables) is False
    with service(environment=variables):
        pass


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_interval_is_taken_only_where_it_is_meant_for_this_process(variables, seconds):
    assert watchdog_interval_s(variables) == seconds


def test_a_service_is_ready_on_entry_and_stopping_on_exit_even_after_an_error(listener):
    with pytest.raises(KeyError), service(environment=listener.variables):
        raise KeyError("within")
    assert listener.all() == ["READY=1", "STOPPING=1"]


def test_signs_of_life_come_more_often_than_asked_for_and_end_with_the_service(listener):
    variables = {**listener.variables, "WATCHDOG_USEC": "300000"}
    with service(environment=variables):
        assert listener.next() == "READY=1"
        started = time.monotonic()
        assert [listener.next() for _ in range(3)] == ["WATCHDOG=1"] * 3
        assert time.monotonic() - started < 3 * 0.3
    assert "watchdog" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("answer", [False, None, RuntimeError("hung")])
def test_a_service_that_is_not_well_gives_no_sign_of_life(listener, answer):
    asked = threading.Event()

    def alive():
        asked.set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    with service(alive, {**listener.variables, "WATCHDOG_USEC": "30000"}):
        assert asked.wait(5)
        time.sleep(0.05)
    assert "WATCHDOG=1" not in listener.all()
