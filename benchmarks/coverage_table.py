"""How much of each package the tests run: statements and branches, counted by coverage.py.

The one idea: a line that no test runs may say anything, so what is never run is counted, package by
package, and the modules with most of it are named. ``make coverage`` runs the plain and the torch
tests, none that is slow, with every process that they start, and then calls this. That a line is
run does not say that a test would notice if it were wrong.

What it does not see: the native decoder in C, the board's Python 3.6 and child processes that die
by a signal.

Example:
  make coverage
  make coverage TESTS="tests/core tests/formats"
  python benchmarks/coverage_table.py --data .venv/coverage --tests tests/core -o core.json
"""

import argparse
import collections
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import coverage

sys.path.append(str(Path(__file__).resolve().parent / "common"))  # where ``reports`` lies

from reports import RESULTS, Provenance, headline, new_parser, provenance, run_script

from merino_edge.errors import UsageError

SCHEMA = "merino-edge.coverage/1"
N_LEAST = 10
PACKAGE = Path(__file__).resolve().parents[1] / "merino_edge"


class Share(NamedTuple):
    """What the tests run of a package or a module.

    Attributes:
        name: As in ``merino_edge.core``.
        n_statements: All; those that the configuration leaves out are not counted.
        n_statements_run: Of these, run at least once.
        n_branches: Ways out of conditions and loops.
        n_branches_taken: Of these, taken at least once.
    """

    name: str
    n_statements: int
    n_statements_run: int
    n_branches: int
    n_branches_taken: int

    @property
    def n_missed(self) -> int:
        """Statements and branches that no test touches."""
        found = self.n_statements_run + self.n_branches_taken
        return self.n_statements + self.n_branches - found

    @property
    def percent(self) -> float:
        """Of statements and branches together, as coverage.py counts; 100 of nothing."""
        total = self.n_statements + self.n_branches
        return 100.0 * (total - self.n_missed) / total if total else 100.0


class Report(NamedTuple):
    """The result.

    Attributes:
        provenance: When, where, with which versions.
        tests: What pytest was told to run.
        total: The package as a whole.
        packages: Its packages one level down, modules of the root under its own name.
        least: The modules that miss most, worst first.
    """

    provenance: Provenance
    tests: str
    total: Share
    packages: list[Share]
    least: list[Share]


def main() -> None:
    """Read what was measured, save, print."""
    parser = new_parser(__doc__, RESULTS / "coverage.json")
    add = parser.add_argument
    add("--data", default=".coverage", metavar="FILE", help="what coverage.py wrote (.coverage)")
    add("--tests", default="all but slow ones", metavar="WORDS", help="what was run, in words")
    run_script(parser, SCHEMA, make, markdown)


def make(options: argparse.Namespace) -> Report:
    """The report for the options of the command line.

    Raises:
        UsageError: There are no such data, or nothing was measured.
    """
    modules = [share_of(path, found) for path, found in measured_files(options.data).items()]
    return Report(
        provenance(("coverage", "pytest", "torch", "onnxruntime")),
        options.tests,
        summed("all", modules),
        packages_of(modules),
        sorted(modules, key=lambda each: -each.n_missed)[:N_LEAST],
    )


def measured_files(data: str) -> dict[str, Any]:
    """Path -> coverage.py's own summary, of this checkout: tests install others.

    Raises:
        UsageError: There are no such data, or nothing was measured.
    """
    hint = "make coverage measures, and calls this."
    if not Path(data).is_file():
        raise UsageError(f"there is no file '{data}'.", hint=hint)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        try:
            found = coverage.Coverage(data_file=data)
            found.load()
            found.json_report(outfile=str(report), include=[str(PACKAGE / "*")])
        except coverage.exceptions.CoverageException as error:
            raise UsageError(f"'{data}' cannot be read: {error}", hint=hint) from error
        return dict(json.loads(report.read_text("utf-8"))["files"])


def share_of(path: str, found: dict[str, Any]) -> Share:
    """Of one module: ``merino_edge/core/space.py`` is ``merino_edge.core.space``."""
    summary = found["summary"]
    parts = Path(path).with_suffix("").parts
    name = ".".join(parts[parts.index("merino_edge") :])
    return Share(
        name.removesuffix(".__init__"),
        summary["num_statements"],
        summary["covered_lines"],
        summary["num_branches"],
        summary["covered_branches"],
    )


def packages_of(modules: list[Share]) -> list[Share]:
    """By package one level down; errors, version and entry are the root's own."""
    groups = collections.defaultdict(list)
    packages = {each.name.split(".")[1] for each in modules if each.name.count(".") > 1}
    for each in modules:
        first = each.name.split(".")[1:2]
        groups[".".join(["merino_edge", *(name for name in first if name in packages)])].append(
            each
        )
    return [summed(name, group) for name, group in sorted(groups.items())]


def summed(name: str, shares: list[Share]) -> Share:
    """Several as one."""
    return Share(name, *(sum(column) for column in list(zip(*shares, strict=True))[1:]))


def markdown(report: Report) -> str:
    """The tables."""
    lines = [headline(report.provenance, "one process"), f"tests: {report.tests}", ""]
    lines += table("package", [*report.packages, report.total])
    lines += ["", *table("modules that miss most", report.least)]
    return "\n".join(lines)


def table(title: str, shares: list[Share]) -> list[str]:
    """The rows of one table."""
    rows = [f"| {title} | statements | branches | not run | covered |", "|---|---:|---:|---:|---:|"]
    for each in shares:
        counts = f"{each.n_statements} | {each.n_branches} | {each.n_missed}"
        rows.append(f"| {each.name} | {counts} | {each.percent:.1f} % |")
    return rows


if __name__ == "__main__":
    main()
