"""Put the tables of the JSON files into README.md, between the marks that name them.

The one idea: a figure stands in one place, the file that a script wrote; the page shows it and
cannot disagree. A mark is a comment, ``<!-- table NAME -->``, and its end ``<!-- end -->``.

Example:
  python benchmarks/native/native_page.py
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "common"))  # where ``reports`` lies

import accuracy  # noqa: E402
import cold_start  # noqa: E402
import instructions  # noqa: E402
import step_profile  # noqa: E402
from reports import filled, results_folder, tables_of  # noqa: E402

SOURCES = {
    "instructions.json": instructions,
    "accuracy.json": accuracy,
    "cold_start.json": cold_start,
    "step_profile.json": step_profile,
}


def tables() -> dict[str, str]:
    """Name of a mark -> what stands there."""
    return tables_of(results_folder(__file__), SOURCES)


def main() -> int:
    """Rewrite the page."""
    page = HERE / "README.md"
    page.write_text(filled(page.read_text("utf-8"), tables()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
