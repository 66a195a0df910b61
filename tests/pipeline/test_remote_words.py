"""What a user reads when ssh or the board fails, and how long we go on trying: no network."""

import pytest

from merino_edge.errors import BoardBuildError, BoardError, StoppedError, UsageError
from merino_edge.pipeline.remote.link_errors import ConnectionLost, link_error
from merino_edge.pipeline.remote.patience import Patience
from merino_edge.pipeline.remote.report import RemoteReport, check, report_paths
from merino_edge.pipeline.remote.ssh import Ssh

# As OpenSSH 8.9 and 9.2 wrote them.
CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Offending ED25519 key in /tmp/known_hosts:1
Host key verification failed.
"""
SAID = [
    ("ssh: Could not resolve hostname nano.local: Name or service not known", True, "by the name"),
    ("ssh: connect to host 10.0.0.9 port 22: Connection refused", True, "refuses"),
    ("ssh: connect to host 10.0.0.9 port 22: No route to host", True, "does not answer"),
    ("ssh: connect to host 10.0.0.9 port 22: Connection timed out", True, "does not answer"),
    ("Timeout, server 10.0.0.9 not responding.", True, "broke"),
    ("Connection closed by 10.0.0.9 port 22", True, "broke"),
    ("client_loop: send disconnect: Broken pipe", True, "broke"),
    (CHANGED, False, "not the one that this machine knows"),
    ("Host key verification failed.", False, "never met"),
    ("user@nano.local: Permission denied (publickey,password).", False, "does not accept"),
    ("command-line line 0: Bad configuration option: prot", False, "does not understand"),
]


@pytest.mark.parametrize(("said", "may_pass", "words"), SAID)
def test_what_ssh_says_becomes_a_sentence_and_a_command(said, may_pass, words):
    error = link_error("user@nano.local", said)
    assert words in error.message
    assert isinstance(error, ConnectionLost) is may_pass
    assert error.exit_code == 7
    assert error.note == said.strip().splitlines()[-1]
    assert error.hint


def test_hints_name_the_machine_without_the_account():
    assert "ping nano.local" in link_error("user@nano.local", "Operation timed out").hint


@pytest.mark.parametrize("host", ["", "-oProxyCommand=touch x", "a b", "nano\nx"])
def test_a_host_that_ssh_would_misread_is_refused(host):
    with pytest.raises(UsageError, match="--host"):
        Ssh(host)


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self):
        self.now = 0.0
        self.pauses = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


class Link:
    """A connection that comes back after so many attempts."""

    host = "nano"

    def __init__(self, attempts):
        self._attempts = attempts

    def connect(self):
        self._attempts -= 1
        if self._attempts > 0:
            raise ConnectionLost("'nano' does not answer.", "No route to host")


def breaking(times):
    """A step that loses its connection so many times."""
    state = {"left": times}

    def step():
        if state["left"]:
            state["left"] -= 1
            raise ConnectionLost("the connection to 'nano' broke.")
        return "done"

    return step


def test_pauses_grow_until_the_board_is_back():
    clock = Clock()
    patience = Patience(Link(6), 600, "again", lambda text: None, clock, clock.sleep)
    assert patience.keep_trying(breaking(1)) == "done"
    assert clock.pauses == [1, 2, 4, 8, 15, 15]
    assert patience.n_breaks == 1


def test_a_board_that_stays_away_ends_the_waiting_with_its_last_reason():
    clock = Clock()
    patience = Patience(Link(10**9), 60, "go on", lambda text: None, clock, clock.sleep)
    words = r"did not come back within 60 s.*does not answer"
    with pytest.raises(BoardError, match=words) as caught:
        patience.keep_trying(breaking(1))
    assert not isinstance(caught.value, ConnectionLost)
    assert 60 <= clock.now < 76
    assert caught.value.note == "No route to host"
    assert caught.value.hint.endswith("go on")


def test_a_step_that_never_gets_anywhere_ends_too():
    clock = Clock()
    patience = Patience(Link(1), 60, "again", lambda text: None, clock, clock.sleep)
    with pytest.raises(BoardError, match="did not come back"):
        patience.keep_trying(breaking(10**9))
    assert clock.now < 76


def test_progress_starts_the_waiting_anew():
    clock = Clock()
    patience = Patience(Link(1), 60, "again", lambda text: None, clock, clock.sleep)
    step = breaking(100)

    def moving():
        patience.progressed()
        return step()

    assert patience.keep_trying(moving) == "done"
    assert clock.pauses == [1] * 100


def report(exit_code, result=None):
    return RemoteReport(
        host="nano",
        bundle_id="0" * 12,
        folder="/b",
        device={},
        merino_edge="0",
        copied_bytes=0,
        skipped_bytes=0,
        copy_s=0.0,
        build_s=1,
        n_breaks=0,
        attached=False,
        exit_code=exit_code,
        result=result,
    )


def test_the_boards_last_error_is_told_and_not_an_earlier_one():
    log = "error: a\nhint: b\nmore\nerror: no room: 3 of 4\nnote: c\nhint: d\n"
    with pytest.raises(BoardBuildError) as caught:
        check(report(4), log, "log.txt")
    assert caught.value.exit_code == 4
    assert caught.value.message == "the build on 'nano' failed: no room: 3 of 4"
    assert caught.value.note == "c The board's whole log: log.txt."
    assert caught.value.hint == "on the board: d"


def test_a_traceback_is_told_by_its_last_line():
    with pytest.raises(BoardBuildError, match="ValueError: x"):
        check(report(1), "Traceback\n  File\nValueError: x\n", "log.txt")


@pytest.mark.parametrize(("there", "here"), [(3, 3), (5, 5), (8, 8), (137, 4), (7, 1), (139, 1)])
def test_only_codes_that_mean_the_same_here_travel(there, here):
    with pytest.raises(BoardBuildError) as caught:
        check(report(there), "", "log.txt")
    assert caught.value.exit_code == here


def test_a_cancelled_build_is_no_failure():
    with pytest.raises(StoppedError, match="cancelled"):
        check(report(130), "", "log.txt")


def test_success_without_a_result_is_not_believed():
    with pytest.raises(BoardError, match="not JSON"):
        check(report(0, result=None), "", "log.txt")


def test_reports_lie_beside_the_bundle_and_not_in_it():
    assert report_paths("out/nano/") == ("out/nano.board-report.json", "out/nano.board-log.txt")
