"""Put the tables of the results into the pages, between the marks that name them.

The one idea: a figure stands in one place, the file that a script wrote; a page shows it and cannot
disagree. A mark is a comment, ``<!-- table NAME -->``, and its end ``<!-- end -->``; all between is
made here. ``PAGES`` says of each page which files it shows, and which module words them. Nothing is
measured, and torch is not needed.

Example:
  python benchmarks/pages.py
  python benchmarks/pages.py --check
  python benchmarks/pages.py quality native
"""

import argparse
import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent


class Source(NamedTuple):
    """A file of results, and what words it.

    Attributes:
        file: Its name in the page's folder of results.
        module: With ``SCHEMA``, the record, and ``markdown`` or ``sections``.
        mark: Where ``markdown`` of the record stands; "" if ``sections`` names its marks itself.
        record: Name of the record.
        records: The module with ``SCHEMA`` and the record, where that is another one.
        plot: What the drawing beside the file shows, which is called as it is but for ``.svg``.
    """

    file: str
    module: str
    mark: str = ""
    record: str = "Report"
    records: str = ""
    plot: str = ""


CURVES = "Bits per byte of the held-out part against tokens read, a line a contestant"
# Folder of a page -> what it shows. A name alone is a module that reads for itself: ``tables()``.
PAGES: dict[str, tuple[Source | str, ...]] = {
    "..": ("front_page",),
    ".": (
        Source("rerun.json", "rerun_report", "rerun"),
        Source("coverage.json", "coverage_table", "coverage"),
    ),
    "headline": (Source("headline.json", "headline_report"),),
    "latency": ("tables_page", Source("confirm.json", "confirm_report", "confirm")),
    "native": (
        Source("instructions.json", "instructions", "instructions"),
        Source("accuracy.json", "accuracy_report", "accuracy"),
        Source("cold_start.json", "cold_start", "cold_start"),
        Source("step_profile.json", "step_profile", "step_profile"),
    ),
    "peers": (Source("results.json", "peers_tables", records="peers_report"), "without_amx"),
    "quality": (
        Source("contestants.json", "entrants", "contestants", record="Contestants"),
        Source("entrant_times.json", "entrant_times", "contestant_times"),
        Source("contest-pilot.json", "contest_report", "pilot", plot=CURVES),
        Source("contest.json", "contest_report", "contest", plot=CURVES),
        Source("pretrained.json", "pretrained"),
        Source("eval_speed.json", "eval_speed_report", "eval_speed"),
    ),
    "search": (
        Source("presets.json", "presets_report", "presets"),
        Source("baselines.json", "baselines_report"),
        Source("entropy_tables.json", "entropy_tables"),
        "analyse",
    ),
    "serving": (Source("load.json", "load", "load", record="LoadReport"),),
    "soak": (
        Source("soak.json", "soak", "soak"),
        Source("round_trip.json", "round_trip", "round_trip"),
    ),
    "tensorrt": (
        Source("layouts.json", "layouts_report"),
        Source("engine_bytes.json", "engine_bytes_report", "engine_bytes"),
        Source("fp16_quality.json", "fp16_quality_report", "fp16_quality"),
    ),
    "training": (Source("speed.json", "speed_report", "speed"),),
    "updates": (
        Source("power_cuts.json", "power_cuts", "power_cuts"),
        Source("mutations.json", "mutate", "mutations"),
    ),
}
sys.path.extend(str(HERE / folder) for folder in ("common", *PAGES, "search/study"))

from reports import RESULTS  # noqa: E402

from merino_edge.errors import FormatError, MerinoError  # noqa: E402
from merino_edge.formats import jsonio  # noqa: E402

_MARKED = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def page_of(folder: str) -> Path:
    """Where the tables of a folder stand."""
    return (HERE / folder / "README.md").resolve()


def made(folder: str) -> str:
    """The page as it should be.

    Raises:
        FormatError: A file is not what it claims, or the page's marks are not those of the tables.
        OSError: There is no page.
    """
    page = page_of(folder).read_text("utf-8")
    return filled(page, tables(folder, marks_of(page)))


def tables(folder: str, marks: list[str]) -> dict[str, str]:
    """Name of a mark -> what stands there.

    Args:
        folder: Of the page.
        marks: That it has. Those that only a missing file could fill say that it is missing.
    """
    found, missing = {}, []
    for source in PAGES[folder]:
        if isinstance(source, str):
            found.update(import_module(source).tables())
        elif (RESULTS / folder / source.file).exists():
            found.update(_worded(folder, source))
        else:
            missing.append(f"`{source.file}`")
    if missing:
        words = f"Not measured yet: the results have no {' and no '.join(missing)}."
        found.update({mark: words for mark in marks if mark not in found})
    return found


def _worded(folder: str, source: Source) -> dict[str, str]:
    """What one file says."""
    path, module = RESULTS / folder / source.file, import_module(source.module)
    records = import_module(source.records or source.module)
    record = jsonio.read_record(str(path), records.SCHEMA, getattr(records, source.record))
    if not source.mark:
        return module.sections(record)
    plot = path.with_suffix(".svg")
    shown = f"\n![{source.plot}](../results/{folder}/{plot.name})\n"
    return {source.mark: module.markdown(record) + (shown if plot.exists() else "")}


def marks_of(page: str) -> list[str]:
    """Names of the tables that a page has."""
    return [match[2] for match in _MARKED.finditer(page)]


def filled(page: str, found: dict[str, str]) -> str:
    """A page with its tables between their marks.

    Raises:
        FormatError: The page asks for a table that there is not, or lacks one.
    """
    asked = marks_of(page)
    if sorted(asked) != sorted(found):
        raise FormatError(f"the page has tables {sorted(asked)}, there are {sorted(found)}.")
    return _MARKED.sub(lambda match: f"{match[1]}\n{found[match[2]].strip()}\n\n{match[3]}", page)


def problem(folder: str, check: bool) -> str | None:
    """Fill a page, or look whether it is filled; one line if it is not as it should be."""
    path = page_of(folder)
    shown = os.path.relpath(path)
    try:
        page = made(folder)
        if page == path.read_text("utf-8"):
            return None
        if check:
            return f"{shown}: does not show its results; run python benchmarks/pages.py"
        jsonio.write_bytes_atomic(str(path), page.encode("utf-8"))
    except (MerinoError, OSError) as error:
        return f"{shown}: {error}"
    print(f"filled {shown}")
    return None


def main() -> None:
    """Fill or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="of pages (all)")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if one differs"
    )
    options = parser.parse_args()
    unknown = [folder for folder in options.folders if folder not in PAGES]
    if unknown:
        parser.error(f"there is no page of '{unknown[0]}'; one of {', '.join(PAGES)}.")
    problems = [problem(folder, options.check) for folder in options.folders or PAGES]
    for line in filter(None, problems):
        print(line, file=sys.stderr)
    sys.exit(1 if any(problems) else 0)


if __name__ == "__main__":
    main()
