"""`merino-edge serve`, as a person starts and stops it."""

import json
import re
import signal
import subprocess
import sys
import urllib.request

import pytest
from doubles import tiny_bundle

from merino_edge.cli.main import main


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("serve") / "bundle")


def start(bundle, *words):
    """The process, and the address that it says."""
    command = [sys.executable, "-m", "merino_edge", "serve", bundle, "--port", "0", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        found = re.search(r"http://\S+", line)
        if found:
            return process, found.group()
    raise AssertionError("it ended before it listened")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_answers_and_ends_well(bundle, number):
    process, address = start(bundle)
    with urllib.request.urlopen(address + "v1/models", timeout=10) as found:
        assert json.load(found)["data"][0]["id"] == "tiny"
    process.send_signal(number)
    _, rest = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "stopping: 0 requests run" in rest
    assert "Traceback" not in rest


def test_a_token_of_a_file_is_wanted(bundle, tmp_path):
    token = "0123456789abcdef-cli"
    (tmp_path / "tokens").write_text(token)
    process, address = start(bundle, "--token-file", str(tmp_path / "tokens"))
    try:
        request = urllib.request.Request(address + "v1/models")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(request, timeout=10)
        request.add_header("Authorization", "Bearer " + token)
        with urllib.request.urlopen(request, timeout=10) as found:
            assert found.status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--host", "0.0.0.0"], 2, "there is no token"),
        (["--token-file", "nowhere"], 2, "No such file"),
        (["--sessions", "3", "--backend", "reference"], 2, "need the native backend"),
        (["--sessions", "0"], 2, "above zero"),
        (["--time-limit", "never"], 2, "not a number above zero"),
        (["--port", "99999"], 2, "99999"),
    ],
)
def test_what_cannot_be_is_one_clear_error(bundle, capsys, words, code, message):
    assert main(["serve", bundle, *words]) == code
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_a_port_that_is_taken_is_named(bundle, capsys):
    process, address = start(bundle)
    try:
        port = re.search(r":(\d+)/", address).group(1)
        assert main(["serve", bundle, "--port", port, "-q"]) == 1
        assert "in use" in capsys.readouterr().err
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)


def test_a_folder_that_is_no_bundle_is_named(tmp_path, capsys):
    assert main(["serve", str(tmp_path)]) == 8
    assert "not a bundle" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--port", "0"), ("--host", "0.0.0.0"), ("--token-file", "t")])
def test_what_is_for_http_does_not_go_with_a_socket(bundle, tmp_path, capsys, words):
    path = str(tmp_path / "socket")
    assert main(["serve", bundle, "--socket", path, *words]) == 2
    assert f"{words[0]} is for HTTP, and --socket opens no port" in capsys.readouterr().err
