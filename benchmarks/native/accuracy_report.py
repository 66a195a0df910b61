"""What ``accuracy.py`` found: the records of its JSON file, and the same as a table.

It words figures and measures none, so a page can be made where there is no torch.
"""

import sys
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from reports import Provenance

from merino_edge.cli.output import table

HEADER = ("", "perplexity", "x torch", "standard error")
SCHEMA = "merino-edge.native-accuracy/1"


class Found(NamedTuple):
    """One way of computing.

    Attributes:
        how: torch, or the backend and the bundle's precision.
        bundle: Identity, or nothing for torch.
        perplexity: Of all windows together.
        ratio: To torch's.
        ratio_error: Standard error of the ratio, from the windows' own log-likelihoods.
    """

    how: str
    bundle: str
    perplexity: float
    ratio: float
    ratio_error: float


class Report(NamedTuple):
    """Nothing is drawn at random, so there is no seed.

    Attributes:
        provenance: Date, machine, versions.
        model: Name of the checkpoint.
        text: Name of the file.
        text_sha256: Of all of it.
        n_tokens: That were read, in whole windows.
        window: Tokens that see each other.
        found: torch first.
    """

    provenance: Provenance
    model: str
    text: str
    text_sha256: str
    n_tokens: int
    window: int
    found: list[Found]


def markdown(report: Report) -> str:
    """The report as a table, with a line on what was read."""
    rows = [
        (each.how, f"{each.perplexity:.4f}", f"{each.ratio:.5f}", f"{each.ratio_error:.5f}")
        for each in report.found
    ]
    return (
        f"{report.model}, {report.n_tokens} tokens of {report.text} in windows of {report.window}; "
        f"{report.provenance.machine.cpu}, {report.provenance.date}\n\n{table(HEADER, rows)}"
    )
