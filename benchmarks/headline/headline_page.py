"""Put the tables of headline.json into README.md, between the marks that name them.

Example:
  python benchmarks/headline/headline_page.py
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "common"))  # where ``reports`` lies

import headline_report  # noqa: E402
from reports import filled, results_folder, tables_of  # noqa: E402

PAGE = HERE / "README.md"


def tables() -> dict[str, str]:
    """Name of a mark -> what stands there."""
    return tables_of(results_folder(__file__), {"headline.json": headline_report})


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8"), tables()), "utf-8")
