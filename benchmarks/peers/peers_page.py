"""Put the tables of results.json into README.md, between the marks that name them.

The one idea: a figure stands in one place, the file that ``run.py`` wrote; the page shows it and
cannot disagree. A mark is a comment, ``<!-- table NAME -->``, and its end ``<!-- end -->``.

Example:
  python benchmarks/peers/peers_page.py
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "common"))  # where ``reports`` lies

import peers_report  # noqa: E402
from peers_tables import sections  # noqa: E402
from reports import filled, results_folder  # noqa: E402

from merino_edge.formats import jsonio  # noqa: E402

RESULTS = results_folder(__file__) / "results.json"


def main() -> int:
    """Rewrite the page."""
    report = jsonio.read_record(str(RESULTS), peers_report.SCHEMA, peers_report.Report)
    page = HERE / "README.md"
    page.write_text(filled(page.read_text("utf-8"), sections(report)), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
