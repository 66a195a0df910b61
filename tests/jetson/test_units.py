"""The systemd units: nothing that systemd 237 of Ubuntu 18.04 does not know, nor contradictions."""

import os
import re
import shlex
import shutil
import subprocess

import pytest
from repository import ROOT

from merino_edge.cli.main import main

UNITS = sorted((ROOT / "jetson/units").glob("*.service"))
UBUNTU_18_04 = 237
# The first version that knows an option, from systemd's NEWS; 0 is older than 200.
KNOWN_SINCE = {
    "Unit": {
        "Description": 0,
        "ConditionPathExists": 0,
        "After": 0,
        "Before": 0,
        "Wants": 0,
        "StartLimitIntervalSec": 230,
        "StartLimitBurst": 230,
    },
    "Service": {
        "Type": 0,
        "NotifyAccess": 0,
        "WatchdogSec": 0,
        "TimeoutStartSec": 0,
        "TimeoutStopSec": 0,
        "Restart": 0,
        "RestartSec": 0,
        "ExecStartPre": 231,  # with +
        "ExecStart": 0,
        "ExecStartPost": 231,
        "User": 0,
        "Group": 0,
        "SupplementaryGroups": 0,
        "RuntimeDirectory": 211,
        "CacheDirectory": 235,
        "EnvironmentFile": 0,
        "Environment": 0,
        "NoNewPrivileges": 0,
        "CapabilityBoundingSet": 0,
        "ProtectSystem": 232,  # strict
        "ProtectHome": 214,
        "PrivateTmp": 0,
        "ProtectKernelTunables": 232,
        "ProtectKernelModules": 232,
        "ProtectControlGroups": 232,
        "RestrictAddressFamilies": 211,
        "RestrictNamespaces": 233,
        "RestrictRealtime": 231,
        "LockPersonality": 235,
        "SystemCallArchitectures": 209,
        "UMask": 0,
        "OOMScoreAdjust": 0,
        "Nice": 0,
    },
    "Install": {"WantedBy": 0},
}


def options(unit):
    """(section, option, value) of every line."""
    section = None
    for line in unit.read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield section, name, value


def value(unit, wanted):
    return [value for _, name, value in options(unit) if name == wanted]


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_every_option_is_known_to_the_systemd_of_ubuntu_18_04(unit):
    unknown = [
        (section, name)
        for section, name, _ in options(unit)
        if KNOWN_SINCE[section].get(name, UBUNTU_18_04 + 1) > UBUNTU_18_04
    ]
    assert unknown == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_itself_finds_nothing_wrong(unit, tmp_path):
    """Its own verifier; what the unit starts is given a file, since it looks for one."""
    verifier = shutil.which("systemd-analyze")
    if verifier is None:
        pytest.skip("there is no systemd-analyze here")
    program = tmp_path / "merino-edge"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for each in UNITS:
        text = each.read_text("utf-8").replace("/usr/local/bin/merino-edge", str(program))
        (tmp_path / each.name).write_text(text, "utf-8")
    done = subprocess.run(
        [verifier, "verify", "--man=no", tmp_path / unit.name],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
    )
    about_ours = [line for line in done.stderr.splitlines() if "merino" in line]
    assert (done.returncode, about_ours) == (0, []), done.stderr


def test_the_commands_of_the_units_are_commands_of_ours(capsys):
    """With --help in the place of what only a board has, each parses."""
    seen = set()
    for unit in UNITS:
        for _, name, line in options(unit):
            words = shlex.split(line.lstrip("+-")) if name.startswith("Exec") else []
            if words and words[0].endswith("/merino-edge"):
                verbs = [word for word in words[1:] if re.fullmatch("[a-z-]+", word)]
                assert main([*verbs, "--help"]) == 0
                seen.add(" ".join(verbs))
    assert seen == {"build", "serve", "bundle boot", "bundle confirm"}


def test_the_server_is_watched_counted_and_confirmed_only_after_it_lived():
    unit = ROOT / "jetson/units/merino-edge.service"
    assert value(unit, "Type") == ["notify"]
    assert value(unit, "WatchdogSec") == ["60"]
    assert value(unit, "ExecStartPre") == ["+/usr/local/bin/merino-edge bundle boot"]
    lives, confirm = value(unit, "ExecStartPost")
    assert "kill -0 $MAINPID" in lives
    assert confirm == "+/usr/local/bin/merino-edge bundle confirm"
    # three starts on trial for one slot and then the other's; giving up earlier would end both
    assert int(value(unit, "StartLimitBurst")[0]) > 4


@pytest.mark.parametrize("alive", [True, False])
def test_a_server_that_died_within_the_minute_is_not_confirmed(alive):
    unit = ROOT / "jetson/units/merino-edge.service"
    shell, flag, script = shlex.split(value(unit, "ExecStartPost")[0])
    process = subprocess.Popen(["sleep", "60"])
    try:
        if not alive:
            process.kill()
            process.wait()
        done = subprocess.run(
            [shell, flag, script.replace("sleep 60", "sleep 0")],
            env={**os.environ, "MAINPID": str(process.pid)},
            stderr=subprocess.DEVNULL,
        )
        assert (done.returncode == 0) is alive
    finally:
        process.kill()
        process.wait()


def test_both_units_are_confined_alike_and_none_hides_the_gpu():
    confined = [
        {(n, v) for _, n, v in options(unit) if n.startswith(("Protect", "Restrict", "NoNew"))}
        - {("Restart", "always"), ("RestartSec", "5")}
        for unit in UNITS
    ]
    assert confined[0] == confined[1]
    for unit in UNITS:
        names = {name for _, name, _ in options(unit)}
        assert not names & {"PrivateDevices", "MemoryDenyWriteExecute", "DevicePolicy"}
        assert "video" in value(unit, "SupplementaryGroups")


def test_the_options_file_holds_one_variable_that_the_unit_uses():
    (line,) = [
        line
        for line in (ROOT / "jetson/units/serve.env").read_text("utf-8").splitlines()
        if not line.startswith("#")
    ]
    name, _, words = line.partition("=")
    unit = ROOT / "jetson/units/merino-edge.service"
    assert value(unit, "ExecStart")[0].endswith(" $" + name)
    assert "--host" not in words  # this machine only, unless the user says otherwise
