"""What the scripts of all folders have in common: a report in JSON, and its tables on stdout.

The one idea: figures without date, machine and versions cannot be compared with others, so a
report begins with them; ``load`` tells its reader whether the machine was quiet. Whether the file
can be written is asked first, not after minutes of measuring.
"""

import argparse
import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import merino_edge
from merino_edge.cli.output import human_count
from merino_edge.core.budget import Budget
from merino_edge.errors import MerinoError, UsageError
from merino_edge.formats import jsonio
from merino_edge.formats.measurement import DeviceInfo
from merino_edge.runtime.device_info import device_info, package_versions

Report = TypeVar("Report")
BENCHMARKS = Path(__file__).resolve().parents[1]
RESULTS = BENCHMARKS / "results"


class Provenance(NamedTuple):
    """What stands at the head of a report.

    Attributes:
        date: When it began, in UTC.
        load: Processes that wanted a core in the minute before, on average.
        versions: Of merino-edge and of the libraries that compute.
        machine: Where.
    """

    date: str
    load: float
    versions: dict[str, str | None]
    machine: DeviceInfo


def provenance(packages: tuple[str, ...]) -> Provenance:
    """Of a report that begins now."""
    return Provenance(
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        load=round(os.getloadavg()[0], 2),
        versions={"merino-edge": merino_edge.__version__, **package_versions(packages)},
        machine=device_info(),
    )


def headline(found: Provenance, cores: str = "one core") -> str:
    """One line above the tables."""
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    return f"{found.machine.cpu}, {cores}; load before {found.load}; {versions}; {found.date}"


def budget_name(budget: Budget) -> str:
    """``64M/160G``: parameters, and FLOPs of 1024 tokens without the head."""
    limits = (budget.max_params, budget.max_flops)
    return "/".join(human_count(limit) for limit in limits if limit is not None)


def results_folder(script: str) -> Path:
    """Where the results of a script's folder are kept: ``benchmarks/results/FOLDER``.

    Args:
        script: Its ``__file__``.
    """
    return RESULTS / Path(script).resolve().parent.relative_to(BENCHMARKS)


def new_parser(doc: str | None, output: Path) -> argparse.ArgumentParser:
    """A parser that shows the module's docstring as it is, with ``-o`` in it.

    Args:
        doc: The docstring.
        output: The committed file, which is made anew unless ``-o`` names another.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shown = output.relative_to(BENCHMARKS.parent)
    parser.add_argument("-o", "--output", default=str(output), metavar="FILE", help=f"({shown})")
    return parser


def run_script(
    parser: argparse.ArgumentParser,
    schema: str,
    make: Callable[[argparse.Namespace], Report],
    markdown: Callable[[Report], str],
) -> None:
    """Parse, make the report, save it, print its tables; an error of the user ends in a sentence.

    Args:
        parser: With ``-o``.
        schema: Of the file.
        make: The report, from the options.
        markdown: Its tables.
    """
    try:
        options = parser.parse_args()
        check_folder(options.output)
        report = make(options)
        jsonio.write_record(options.output, schema, report)
    except (MerinoError, OSError) as error:
        parser.exit(getattr(error, "exit_code", 1), f"error: {error}\n")
    print(markdown(report))


def check_folder(output: str) -> None:
    """See that there is a folder to write to; that of our own results is made.

    Raises:
        UsageError: There is none.
    """
    folder = Path(output).resolve().parent
    if RESULTS in folder.parents:
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        raise UsageError(f"there is no folder '{folder}' to write to.")
