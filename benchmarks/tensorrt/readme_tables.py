"""Put the tables of the JSON files into README.md, between the marks that name them.

The one idea: a figure stands in one place, the file that a script wrote; the page shows it and
cannot disagree. A mark is a comment, ``<!-- table NAME -->``, and its end ``<!-- end -->``.

Example:
  python benchmarks/tensorrt/readme_tables.py
"""

import re
import sys
from pathlib import Path

import engine_bytes
import fp16_quality_report
import layouts_report

from merino_edge.errors import FormatError
from merino_edge.formats import jsonio

HERE = Path(__file__).resolve().parent
SOURCES = {
    "layouts.json": layouts_report,
    "engine_bytes.json": engine_bytes,
    "fp16_quality.json": fp16_quality_report,
}
_MARKED = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables() -> dict[str, str]:
    """Name of a mark -> what stands there.

    Raises:
        FormatError: A file is not what it claims.
    """
    found: dict[str, str] = {}
    for name, kind in SOURCES.items():
        report = jsonio.read_record(str(HERE / name), kind.SCHEMA, kind.Report)
        found.update(kind.sections(report))
    return found


def filled(page: str, found: dict[str, str]) -> str:
    """The page with its tables.

    Raises:
        FormatError: The page asks for a table that there is not, or lacks one.
    """
    asked = [match[2] for match in _MARKED.finditer(page)]
    if sorted(asked) != sorted(found):
        raise FormatError(f"the page has tables {sorted(asked)}, there are {sorted(found)}.")
    return _MARKED.sub(lambda match: f"{match[1]}\n{found[match[2]].strip()}\n\n{match[3]}", page)


def main() -> int:
    """Rewrite the page."""
    page = HERE / "README.md"
    page.write_text(filled(page.read_text("utf-8"), tables()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
