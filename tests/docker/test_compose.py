"""The compose file: valid by Compose's own schema, and as careful as the systemd unit."""

import json
import pathlib
import subprocess
import sys
import zipfile

import pytest
from repository import ROOT

yaml = pytest.importorskip("yaml", reason="not installed: PyYAML")
COMPOSE = ROOT / "docker/compose.yaml"
# The last that a board's Python 3.6 can run, and the home of the schema.
RELEASE = "docker-compose==1.29.2"


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load(COMPOSE.read_text("utf-8"))


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    """Out of the package, which is not installed: it asks for libraries of its time."""
    folder = tmp_path_factory.mktemp("schema")
    fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, RELEASE]
    if subprocess.run(fetch, capture_output=True).returncode:
        pytest.skip("pip reaches no package index here")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return json.loads(archive.read("compose/config/compose_spec.json"))


@pytest.mark.slow
def test_the_schema_of_compose_accepts_it_and_refuses_what_is_no_key(compose, schema):
    jsonschema = pytest.importorskip("jsonschema", reason="not installed: jsonschema")
    jsonschema.Draft7Validator(schema).validate(compose)

    compose["services"]["board"]["runtimes"] = "nvidia"
    with pytest.raises(jsonschema.ValidationError, match="runtimes"):
        jsonschema.Draft7Validator(schema).validate(compose)
    del compose["services"]["board"]["runtimes"]


def test_each_service_builds_a_dockerfile_that_is_there(compose):
    for name, service in compose["services"].items():
        context = pathlib.Path(COMPOSE.parent, service["build"]["context"]).resolve()
        assert context == ROOT
        assert service["build"]["dockerfile"] == f"docker/{name}.Dockerfile"
        assert (context / service["build"]["dockerfile"]).is_file()


def test_the_board_has_its_gpu_and_little_else(compose):
    board = compose["services"]["board"]
    assert board["runtime"] == "nvidia"
    assert board["read_only"] is True
    assert board["cap_drop"] == ["ALL"]
    assert "privileged" not in board
    assert any(volume.endswith(":/var/lib/merino-edge:ro") for volume in board["volumes"])


def test_the_server_stays_on_the_boards_loopback_and_its_command_parses(compose):
    from merino_edge.cli.main import main

    command = compose["services"]["board"]["command"]
    assert "--host" not in command
    assert main([*command, "--help"]) == 0
    assert command[1] == "/var/lib/merino-edge/current"
