"""Put the tables of results.json into README.md, between the marks that name them.

The one idea: a figure stands in one place, the file that ``run.py`` wrote; the page shows it and
cannot disagree. A mark is a comment, ``<!-- table NAME -->``, and its end ``<!-- end -->``.

Example:
  python benchmarks/peers/peers_page.py
"""

import re
import sys
from pathlib import Path

import peers_report
from peers_tables import sections

from merino_edge.errors import FormatError
from merino_edge.formats import jsonio

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
_MARKED = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


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
    report = jsonio.read_record(str(RESULTS), peers_report.SCHEMA, peers_report.Report)
    page = HERE / "README.md"
    page.write_text(filled(page.read_text("utf-8"), sections(report)), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
