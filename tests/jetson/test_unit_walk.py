"""The lines of merino-edge.service in their order, with a test in the place of systemd.

No systemd runs here, so this reads the unit, starts what it starts on a store of its own, hears
what the server tells NOTIFY_SOCKET, and counts starts as the unit does: a server that lives is
confirmed, and a bundle whose server dies is rolled back.
"""

import json
import os
import shlex
import socket
import subprocess
import sys

import pytest
from doubles import native_bundle
from repository import ROOT
from update_store import GOLDEN_BUNDLE, packed

UNIT = (ROOT / "jetson/units/merino-edge.service").read_text("utf-8")
ACTIVATE = ["activate", "--backend", "reference", "-q"]


def unit_words(option, store):
    """The command of ours that an option of the unit names, on a store of the test's."""
    lines = [line for line in UNIT.splitlines() if line.startswith(option + "=")]
    (line,) = [line for line in lines if "/merino-edge " in line]
    words = shlex.split(line.partition("=")[2].lstrip("+"))
    assert words[0] == "/usr/local/bin/merino-edge"
    here = [word.replace("/var/lib/merino-edge", str(store)) for word in words[1:]]
    return [sys.executable, "-m", "merino_edge", *here]


class Systemd:
    """Runs the unit's lines, and listens where the server tells how it is."""

    def __init__(self, folder):
        """A store with nothing in it; messages arrive at a socket in ``folder``."""
        self.store = folder / "store"
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.door.bind(str(folder / "notify"))
        self.door.settimeout(60)
        self.environment = {
            **os.environ,
            "MERINO_EDGE_STORE": str(self.store),
            "MERINO_EDGE_CACHE": str(folder / "engines"),
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": "600000",
        }

    def call(self, option):
        """One of the short lines; gives its exit code."""
        return subprocess.run(unit_words(option, self.store), env=self.environment).returncode

    def bundle(self, *words):
        """A verb of ``merino-edge bundle``, as an operator types it; gives what it prints."""
        command = [sys.executable, "-m", "merino_edge", "bundle", *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self):
        """The server, with what serve.env adds, on any port."""
        words = unit_words("ExecStart", self.store)
        assert words.pop() == "$MERINO_EDGE_SERVE_OPTIONS"
        words += ["--port", "0", "--quiet", "--backend", "reference"]
        return subprocess.Popen(words, env=self.environment)

    def hear(self):
        """The next message of the server."""
        return self.door.recv(4096).decode("utf-8")

    def slot(self):
        """Name and status of the active slot."""
        found = json.loads(self.bundle("list", "--json"))
        (active,) = [slot for slot in found["slots"] if slot["slot"] == found["active"]]
        return active["version"], active["status"]


@pytest.fixture
def systemd(tmp_path):
    double = Systemd(tmp_path)
    double.bundle("install", str(packed(tmp_path / "1.mebundle", "1.0")))
    double.bundle(*ACTIVATE)
    yield double
    double.door.close()


@pytest.mark.slow
def test_a_server_that_lives_is_ready_gives_signs_and_is_confirmed(systemd):
    assert systemd.slot() == ("1.0", "on trial")
    assert systemd.call("ExecStartPre") == 0
    server = systemd.start()
    try:
        assert systemd.hear() == "READY=1"
        assert [systemd.hear() for _ in range(3)] == ["WATCHDOG=1"] * 3
        assert systemd.call("ExecStartPost") == 0
        assert systemd.slot() == ("1.0", "good")
    finally:
        server.terminate()
        assert server.wait(30) == 0
    while systemd.hear() != "STOPPING=1":
        pass


@pytest.mark.slow
def test_a_bundle_whose_server_dies_is_rolled_back_before_the_unit_gives_up(systemd, tmp_path):
    systemd.call("ExecStartPre")
    systemd.call("ExecStartPost")
    systemd.bundle("install", str(packed(tmp_path / "2.mebundle", "2.0")))
    systemd.bundle(*ACTIVATE)
    burst = int(UNIT.partition("StartLimitBurst=")[2].split()[0])
    n_starts = 0
    while systemd.slot()[0] == "2.0":
        assert systemd.call("ExecStartPre") == 0  # and then the server dies, unconfirmed
        n_starts += 1
        assert n_starts < burst
    assert systemd.slot() == ("1.0", "good")
    assert n_starts == 4


@pytest.mark.slow
@pytest.mark.parametrize("bundle", ["of the reference", "native"])
def test_the_build_unit_says_so_where_there_is_no_engine_to_build(bundle, tmp_path):
    """It ends well, so systemd shows no failed unit on a board that has no use for it."""
    path = GOLDEN_BUNDLE if bundle != "native" else native_bundle(tmp_path / "native")
    command = [sys.executable, "-m", "merino_edge", "build", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing to build" in done.stdout
    assert "Wants=merino-edge-build.service" in UNIT  # and where a build fails the server starts
    assert "Requires=" not in UNIT
