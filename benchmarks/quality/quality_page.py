"""Put the tables of the JSON files into README.md, between the marks that name them.

Example:
  python benchmarks/quality/quality_page.py
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "common"))  # where ``reports`` lies

import contest  # noqa: E402
import entrant_times  # noqa: E402
import entrants  # noqa: E402
import eval_speed  # noqa: E402
import pretrained  # noqa: E402
from reports import filled, results_folder, tables_of  # noqa: E402

from merino_edge.formats import jsonio  # noqa: E402

PAGE = HERE / "README.md"


def tables() -> dict[str, str]:
    """Name of a mark -> what stands there."""
    who = jsonio.read_record(
        str(results_folder(__file__) / "contestants.json"), entrants.SCHEMA, entrants.Contestants
    )
    pilot = jsonio.read_record(
        str(results_folder(__file__) / "contest-pilot.json"), contest.SCHEMA, contest.Report
    )
    sources = {
        "entrant_times.json": entrant_times,
        "eval_speed.json": eval_speed,
        "pretrained.json": pretrained,
    }
    others = tables_of(results_folder(__file__), sources)
    return {"contestants": entrants.markdown(who), "pilot": contest.markdown(pilot), **others}


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8"), tables()), "utf-8")
