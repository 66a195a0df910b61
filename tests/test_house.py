"""The house rules: what a reader of the repository may rely on, whatever file they open."""

import ast
import re
import shutil
import subprocess

import pytest
from code_lengths import function_lengths
from repository import ROOT, source_files

from merino_edge import __version__

LONGEST_FUNCTION_LINES = 60

# Places that exist on one machine only, and hosts that a client finds by itself. Written as
# patterns that do not match their own source.
MACHINE_PATHS = (
    r"(?<![\w.~$}])/(?:root|work|home/(?!user\b)\w+|Users/\w+|opt/wheels|opt/pypi|tmp/env|tmp/exp)"
    r"(?:/|\b)"
)
REGISTRY_HOSTS = (
    r"\b(?:pypi|files\.pythonhosted|download\.pytorch|npmjs|registry\.npmjs|deb\.debian|crates)"
    r"\.(?:org|com|io)\b"
)


def texts():
    """(name, text) of every text file of the checkout."""
    for name in source_files():
        data = (ROOT / name).read_bytes()
        if b"\0" not in data:
            yield name, data.decode("utf-8")


@pytest.mark.parametrize("pattern", [MACHINE_PATHS, REGISTRY_HOSTS], ids=["paths", "hosts"])
def test_no_file_names_one_machine_or_a_registry_host(pattern):
    found = [
        f"{name}:{number}: {match.group()}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        for match in re.finditer(pattern, line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (MACHINE_PATHS, "open('/" + "root/x')"),
        (MACHINE_PATHS, "see /" + "home/ann/merino"),
        (REGISTRY_HOSTS, "https://files.python" + "hosted.org/packages"),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern, line):
    assert re.search(pattern, line)


def test_every_module_opens_with_a_docstring():
    silent = [
        name
        for name in source_files()
        if name.endswith(".py")
        and not ast.get_docstring(ast.parse((ROOT / name).read_text("utf-8")))
    ]
    assert silent == []


def test_no_function_is_longer_than_a_screen():
    assert [each for each in function_lengths() if each.n_lines > LONGEST_FUNCTION_LINES] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_alone_lists_every_target():
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^  make (\S+)", listed, re.M) == phony.group(1).split()


def test_the_licence_is_apache_2_and_the_package_says_so():
    licence = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in licence
    assert "Version 2.0, January 2004" in licence
    assert 'license="Apache-2.0"' in (ROOT / "setup.py").read_text("utf-8")


def test_changelog_opens_with_the_version_of_the_package():
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert newest.group(1) == __version__


def test_there_is_no_pyproject_toml():
    """Its mere presence makes pip 21.3.1, the last for Python 3.6, ask an index for setuptools."""
    assert not (ROOT / "pyproject.toml").exists()
