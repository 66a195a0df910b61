"""Where a rerun keeps what it made: a folder for each stage, named by all that decides its result.

The one idea: a result may be taken for another's only if the command, the code, the libraries, the
machine and the inputs were the same, so these make a key, and the key is the folder's name. A
folder with ``done.json`` is finished; one without is a stage that was stopped, and the same command
goes on in it. Of a stage, only the folder of the last key is kept.

Code is the package, the decoder's sources, and the folders of scripts that a stage's script
imports from; which tables of a page those draw makes no difference that is worth an hour, but
nobody can tell from outside.
"""

import functools
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rerun_report import Row
from rerun_stages import ROOT, WANTS, Stage, braces

from merino_edge.formats import jsonio
from merino_edge.formats.bundle import sha256_of
from merino_edge.runtime.device_info import device_info, package_versions

DONE_SCHEMA = "merino-edge.rerun-stage/1"
DONE, LOG, SPENT = "done.json", "log", "spent_s"
PACKAGES = ("torch", "numpy", "onnx", "onnxruntime", "transformers", "tokenizers", "lm_eval")
_IMPORTED = re.compile(r"^\s*(?:from|import) (\w+)", re.MULTILINE)


class Work:
    """The work folder.

    Args:
        folder: Where it is.
        options: What the command line names, for ``WANTS``.
        stages: All of the table.
    """

    def __init__(self, folder: Path, options: dict[str, str | None], stages: Sequence[Stage]):
        self._folder = folder
        self._stages = {stage.name: stage for stage in stages}
        found = {name: want.find(options) for name, want in WANTS.items()}
        self._wants = {name: path and os.path.abspath(path) for name, path in found.items()}

    def uses(self, stage: Stage) -> list[Stage]:
        """Stages whose product it opens."""
        return [self._stages[name] for name in braces(stage) if name in self._stages]

    def missing(self, stage: Stage) -> list[str]:
        """Hints on what this machine lacks for it."""
        lacking = (name for name in braces(stage) if name in WANTS and self._wants[name] is None)
        return [WANTS[name].hint for name in lacking]

    def place(self, stage: Stage) -> Path:
        """The folder of its key."""
        return self._folder / stage.name / self._key(stage)

    def product(self, stage: Stage) -> Path:
        """What it makes."""
        return self.place(stage) / stage.product

    def done(self, stage: Stage) -> Row | None:
        """How it went; None if it has not come to its end."""
        path = self.place(stage) / DONE
        if not path.exists() or not self.product(stage).exists():
            return None
        return jsonio.read_record(str(path), DONE_SCHEMA, Row)

    def begin(self, stage: Stage) -> list[str]:
        """Lay out its folder, without what other keys left; gives the command."""
        place = self.place(stage)
        for other in place.parent.glob("*"):
            if other != place:
                shutil.rmtree(other)
        (place / "scratch").mkdir(parents=True, exist_ok=True)
        _remove(self.product(stage))
        made = {each.name: str(self.product(each)) for each in self.uses(stage)}
        names = {**self._wants, **made, "scratch": str(place / "scratch")}
        names["out"] = str(self.product(stage))
        return [sys.executable, *(word.format(**names) for word in stage.words)]

    def spend(self, stage: Stage, seconds: float) -> float:
        """Add to what it took; gives the sum of all pieces."""
        path = self.place(stage) / SPENT
        spent = seconds + (float(path.read_text("ascii")) if path.exists() else 0.0)
        path.write_text(f"{spent:.3f}", "ascii")
        return spent

    def finish(self, stage: Stage, row: Row) -> None:
        """Mark it as done, and let go of what it needed meanwhile."""
        place = self.place(stage)
        shutil.rmtree(place / "scratch", ignore_errors=True)
        jsonio.write_record(str(place / DONE), DONE_SCHEMA, row)

    def forget(self, stage: Stage) -> None:
        """As if it had never run."""
        shutil.rmtree(self._folder / stage.name, ignore_errors=True)

    def _key(self, stage: Stage) -> str:
        facts = [
            [*stage.words, str(stage.omp_threads), stage.product],
            _code(stage.words[0]),
            _machine(),
            {name: identity(self._wants[name]) for name in braces(stage) if name in WANTS},
            [self._stamp(each) for each in self.uses(stage)],
        ]
        return hashlib.sha256(json.dumps(facts).encode("utf-8")).hexdigest()[:12]

    def _stamp(self, stage: Stage) -> str:
        """An input is made the same again; a measurement is another one each time."""
        row = self.done(stage) if stage.folder else None
        return self._key(stage) + (row.begun if row is not None else "")


@functools.cache
def _machine() -> list[str]:
    found = device_info()
    versions = package_versions(PACKAGES)
    return [found.cpu, str(found.n_cores), found.os, found.python, json.dumps(versions)]


@functools.cache
def _code(script: str) -> str:
    """Of the package, and of a script with what it imports."""
    digest = hashlib.sha256()
    for path in sorted({*_package_files(), *_script_files(script)}):
        digest.update(str(path).encode("utf-8") + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _package_files() -> Iterator[Path]:
    package = ROOT / "merino_edge"
    yield ROOT / "native_build.py"
    for pattern in ("*.py", "*.c", "*.h"):
        yield from package.rglob(pattern)


def _script_files(script: str) -> Iterator[Path]:
    """All files of the folders that it imports from, whatever they import from in turn."""
    here = ROOT / "benchmarks"
    home = {path.stem: path.parent for path in here.rglob("*/*.py") if path.parent != here}
    todo = [(ROOT / script).parent] if script != "-m" else []
    folders: set[Path] = set()
    while todo:
        folder = todo.pop()
        if folder in folders:
            continue
        folders.add(folder)
        for path in folder.rglob("*.py"):
            names = _IMPORTED.findall(path.read_text("utf-8"))
            todo += [home[name] for name in names if name in home]
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.suffix in (".py", ".c", ".txt"))


@functools.cache
def identity(path: str | None) -> str:
    """What tells one input from another: of a file its bytes, of a folder names and sizes.

    An interpreter is told by the packages beside it.
    """
    if path is None:
        return ""
    found = Path(path)
    if found.is_file() and found.parent.name == "bin":
        packages = (found.parent.parent / "lib").glob("python3*/site-packages/*.dist-info")
        return json.dumps(sorted(each.name for each in packages))
    if found.is_file():
        return sha256_of(path)
    files = sorted(each for each in found.rglob("*") if each.is_file())
    return json.dumps([[str(each.relative_to(found)), each.stat().st_size] for each in files])


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def environment(stage: Stage, base: Mapping[str, str]) -> dict[str, str]:
    """Of its process.

    OPENBLAS_CORETYPE and its like, where a machine sets them, choose kernels for old versions.
    """
    found = {k: v for k, v in base.items() if not k.startswith("OPENBLAS_")}
    found.update(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1")
    if stage.omp_threads is not None:
        found["OMP_NUM_THREADS"] = str(stage.omp_threads)
    return found
