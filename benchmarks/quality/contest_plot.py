"""The contest at a glance: how well each contestant foretells held-out text as it reads more.

The one idea: an end point says who leads, a curve says whether that will last.

Example:
  python benchmarks/quality/contest_plot.py benchmarks/results/quality/contest-pilot.json
"""

import argparse
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from contest_report import SCHEMA, Report
from reports import results_folder

from merino_edge.errors import FormatError, MerinoError
from merino_edge.formats import jsonio

STYLES = ("-", "--", "-.", ":")


def draw(report: Report, output: str) -> None:
    """A line for each scored training with a curve, tokens on a logarithmic axis.

    Raises:
        FormatError: There is none.
    """
    runs = [run for run in report.runs if run.curve]
    if not runs:
        raise FormatError("no training of this contest has a curve.")
    mpl.rcParams.update({"svg.hashsalt": "contest", "svg.fonttype": "none", "font.size": 8})
    figure, axes = plt.subplots(figsize=(7, 4))
    names = list(dict.fromkeys(run.contestant for run in runs))
    for run in runs:
        index = names.index(run.contestant)
        label = run.contestant if run.seed == 0 else None
        tokens, bits = zip(*run.curve, strict=True)
        colour = plt.get_cmap("tab10")(index)
        axes.plot(tokens, bits, STYLES[run.seed % len(STYLES)], color=colour, label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="tokens read",
        ylabel="held out (its beginning), bits per byte",
    )
    axes.legend(fontsize=7)
    axes.grid(True, which="both", linewidth=0.3)
    figure.tight_layout()
    figure.savefig(output, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Read, draw, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    report = str(results_folder(__file__) / "contest.json")
    parser.add_argument("report", nargs="?", default=report, metavar="CONTEST.json")
    words = "(the report's name, ending in .svg)"
    parser.add_argument("-o", "--output", metavar="FILE", help=words)
    options = parser.parse_args()
    try:
        output = options.output or str(Path(options.report).with_suffix(".svg"))
        draw(jsonio.read_record(options.report, SCHEMA, Report), output)
    except (MerinoError, OSError) as error:
        parser.exit(getattr(error, "exit_code", 1), f"error: {error}\n")


if __name__ == "__main__":
    main()
