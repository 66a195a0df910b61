"""The package as it is shipped: wheels and source archives, built from a copy of the checkout.

The copy is littered with what editors, compilers and Python leave behind, none of which may be
shipped. An index is asked for only by tests that are slow.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

import pytest
from repository import ROOT, source_files

LITTER = (
    "build/lib/merino_edge/old.py",
    "docs/.deploy.md.swp",
    "jetson/setup.sh~",
    "jetson/__pycache__/wheelhouse.cpython-311.pyc",
    "merino_edge/__pycache__/errors.cpython-311.pyc",
    "merino_edge/native/src/session.o",
    "merino_edge/native/lib/libmerino_edge.so",
)


def build_both(folder: pathlib.Path, compiler: str) -> pathlib.Path:
    """The wheel and the source archive, built beside each other in a folder; gives the wheel."""
    checkout = folder / "checkout"
    for name in source_files():
        target = checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    for name in LITTER:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("litter")
    _build(checkout, "b.build_sdist", compiler)
    return _build(checkout, "b.build_wheel", compiler)


def build_from_archive(archive: pathlib.Path, folder: pathlib.Path, compiler: str) -> pathlib.Path:
    """The wheel that a source archive makes, in a folder."""
    with tarfile.open(archive) as stream:
        stream.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    return _build(unpacked, "b.build_wheel", compiler)


def _build(source: pathlib.Path, word: str, compiler: str) -> pathlib.Path:
    done = subprocess.run(
        [sys.executable, "-c", f"from setuptools import build_meta as b; print({word}('..'))"],
        cwd=source,
        env={**os.environ, "CC": compiler},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return source.parent / done.stdout.splitlines()[-1]


def needs_index() -> None:
    """Skip where pip reaches no index."""
    ask = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d"]
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run([*ask, folder, "pycparser==2.21"], capture_output=True).returncode:
            pytest.skip("pip reaches no package index here")
