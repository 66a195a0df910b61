"""A board within this machine: a real sshd on a loopback port, whose users live in a folder.

The sshd is OpenSSH's, with its own host key, its own list of accepted keys and a free port, and it
runs as the user who runs the tests. Whoever logs in finds the board's folder as home and the
board's ``bin`` first on PATH. ``install_scripted`` puts a stand-in for ``merino-edge`` there that
stands for the board's machine: it checks the bundle that arrived by its own means, builds nothing,
and ends as ``behave`` was told.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from merino_edge import __version__
from merino_edge.formats.manifest import SCHEMA

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
PRIVILEGE_SEPARATION = "/run/sshd"  # what sshd's service makes where sshd runs as root
# bash reads the tester's own ~/.bashrc for sshd, unless it believes to be a shell in a shell.
SSHD_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
ForceCommand {folder}/login
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
SetEnv SHLVL=2
"""
LOGIN = """#!/bin/sh
cd {home}
[ ! -f {home}/profile ] || . {home}/profile
exec env -i HOME={home} PATH={home}/bin:/usr/bin:/bin sh -c "$SSH_ORIGINAL_COMMAND"
"""
SCRIPTED = '''#!{python}
"""Stands for merino-edge on a board: checks what arrived, and ends as behaviour.json says."""
import hashlib, json, os, signal, sys, time
home = os.environ["HOME"]
with open(os.path.join(home, "behaviour.json")) as stream:
    told = json.load(stream)
if sys.argv[1:] == ["doctor", "--json"]:
    print(told["doctor"] if isinstance(told["doctor"], str) else json.dumps(told["doctor"]))
    sys.exit(0)
assert sys.argv[1] == "build" and sys.argv[-1] == "--json", sys.argv
bundle = sys.argv[2]
with open(os.path.join(home, "builds"), "a") as stream:
    stream.write(" ".join(sys.argv[1:]) + "\\n")
with open(os.path.join(bundle, "manifest.json")) as stream:
    files = json.load(stream)["files"]
for name, entry in files.items():
    with open(os.path.join(bundle, name), "rb") as stream:
        assert hashlib.sha256(stream.read()).hexdigest() == entry["sha256"], name
for step in range(told["steps"]):
    sys.stderr.write("step %d\\n" % step)
    sys.stderr.flush()
    time.sleep(told["step_s"])
sys.stderr.write(told["last_words"])
if told["exit_code"] == -9:
    os.kill(os.getpid(), signal.SIGKILL)
if told["exit_code"] == 0:
    print(json.dumps(told["result"]))
sys.exit(told["exit_code"])
'''
DOCTOR = {
    "ok": True,
    "merino_edge": __version__,
    "bundle_schema": SCHEMA,
    "engines": ["tensorrt"],
    "device": {"model": "Scripted Board", "jetpack": "4.6.1", "tensorrt": "8.2.1.8"},
    "checks": [{"name": "swap", "status": "warn", "found": "0 MiB", "why": "too little"}],
}
BEHAVIOUR = {
    "doctor": DOCTOR,
    "steps": 2,
    "step_s": 0.0,
    "exit_code": 0,
    "last_words": "",
    "result": {"engine": "decoder-8.2.plan", "verified": True, "golden_tokens": 64},
}


class SshBoard:
    """The board, and what a test does to it.

    Attributes:
        home: Where its users live.
        port: Of its sshd.
        host: What to give as --host.
    """

    def __init__(self, folder):
        self._folder = pathlib.Path(folder)
        self.home = self._folder / "home"
        self.port = free_port()
        self.host = "127.0.0.1"
        self._sshd = None
        (self.home / "bin").mkdir(parents=True)
        for name in ("host_key", "key"):
            make_key(self._folder / name)
        shutil.copy(self._folder / "key.pub", self._folder / "authorized_keys")
        self.know_host_key(self._folder / "host_key.pub")
        _write_program(self._folder / "login", LOGIN.format(home=self.home))
        config = SSHD_CONFIG.format(port=self.port, folder=self._folder)
        (self._folder / "sshd_config").write_text(config)

    @property
    def ssh_options(self):
        """Settings that keep the tester's own keys, agent and known hosts out of it."""
        return (
            f"Port={self.port}",
            f"IdentityFile={self._folder}/key",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            f"UserKnownHostsFile={self._folder}/known_hosts",
            "GlobalKnownHostsFile=/dev/null",
        )

    def start(self):
        """Start sshd, and wait until it listens."""
        command = [SSHD, "-D", "-e", "-f", self._folder / "sshd_config"]
        with open(self._folder / "sshd.log", "ab") as log:
            self._sshd = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
        for _ in range(200):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            if self._sshd.poll() is not None:
                break
            time.sleep(0.02)
        pytest.skip("sshd does not start here: " + (self._folder / "sshd.log").read_text())

    def stop(self):
        """Stop sshd and break every connection; what runs in a session of its own goes on."""
        self.break_connections()
        self._sshd.terminate()
        self._sshd.wait()

    def break_connections(self):
        """Kill the sshd processes that serve connections, as a lost network would end them."""
        self.signal_connections(signal.SIGKILL)

    def signal_connections(self, number):
        """Send a signal to the sshd processes that serve connections."""
        for process in self.connections():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def connections(self):
        """The sshd processes that serve connections; what they started is not among them."""
        return _below(self._sshd.pid)

    def install_scripted(self, path="bin/merino-edge", **behaviour):
        """Put the stand-in for merino-edge there."""
        (self.home / path).parent.mkdir(parents=True, exist_ok=True)
        _write_program(self.home / path, SCRIPTED.replace("{python}", sys.executable))
        self.behave(**behaviour)

    def behave(self, **behaviour):
        """Tell the stand-in how to end; what is not named is as in BEHAVIOUR."""
        told = {**BEHAVIOUR, **behaviour}
        (self.home / "behaviour.json").write_text(json.dumps(told))

    def builds(self):
        """The command lines of the builds that were started, in order."""
        path = self.home / "builds"
        return path.read_text().splitlines() if path.exists() else []

    def bundle_folder(self, bundle):
        """Where a bundle goes by default."""
        return self.home / ".cache/merino-edge/bundles" / bundle.bundle_id

    def know_host_key(self, public_key):
        """What the workstation takes for the board's host key; None: it never met it."""
        line = ""
        if public_key is not None:
            line = f"[127.0.0.1]:{self.port} {pathlib.Path(public_key).read_text()}"
        (self._folder / "known_hosts").write_text(line)

    def accept_keys(self, text):
        """Whose keys the board accepts."""
        (self._folder / "authorized_keys").write_text(text)


def require_sshd():
    """Skip where there is no OpenSSH to test with, naming what is missing."""
    missing = [name for name in ("ssh", "ssh-keygen") if shutil.which(name) is None]
    if missing or SSHD is None:
        pytest.skip("not installed: " + ", ".join(missing or ["sshd"]))
    if os.geteuid() == 0:
        try:
            os.makedirs(PRIVILEGE_SEPARATION, mode=0o755, exist_ok=True)
        except OSError as error:
            pytest.skip(f"sshd as root needs {PRIVILEGE_SEPARATION}: {error}")


def make_key(path):
    """A new pair of keys: the path, and the path with .pub."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _write_program(path, text):
    pathlib.Path(path).write_text(text)
    os.chmod(path, 0o755)


def _below(parent):
    """sshd processes below a process."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            before, _, after = entry.read_text().rpartition(")")
            if int(after.split()[1]) == parent and "(sshd" in before:
                pid = int(before.split()[0])
                found += [pid, *_below(pid)]
    return found
