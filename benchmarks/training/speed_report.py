"""What ``speed.py`` found: the records of its JSON file, and the same as a table.

It words figures and measures none, so a page can be made where there is no torch.
"""

import statistics
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from reports import Provenance, headline

from merino_edge.cli.output import table

SCHEMA = "merino-edge.training-speed/1"


class Conditions(NamedTuple):
    """What both sides have in common.

    Attributes:
        d_model, n_head, d_ff, n_layers, vocab_size: Of the GPT-2.
        batch_size, seq_len: Windows a step, tokens a window.
        threads: Of torch.
        steps: Counted in each round.
        rounds: Each of both sides.
    """

    d_model: int
    n_head: int
    d_ff: int
    n_layers: int
    vocab_size: int
    batch_size: int
    seq_len: int
    threads: int
    steps: int
    rounds: int

    @property
    def tokens_per_step(self) -> int:
        """Of either side."""
        return self.batch_size * self.seq_len


class Race(NamedTuple):
    """One precision.

    Attributes:
        precision: Of matrix products.
        ours_tok_per_s, theirs_tok_per_s: Of each round.
        ratio: Median over the rounds of ours / theirs in that round.
    """

    precision: str
    ours_tok_per_s: list[float]
    theirs_tok_per_s: list[float]
    ratio: float


class Report(NamedTuple):
    """What the JSON file holds.

    Attributes:
        provenance: When, where, with what.
        conditions: Of all races.
        n_params: Of our model; the script refuses to race with a GPT-2 of another size.
        races: By precision.
    """

    provenance: Provenance
    conditions: Conditions
    n_params: int
    races: list[Race]


def markdown(report: Report) -> str:
    """The table, under a line that says of what."""
    c = report.conditions
    rows = [
        [
            r.precision,
            f"{statistics.median(r.ours_tok_per_s):.0f}",
            f"{statistics.median(r.theirs_tok_per_s):.0f}",
            f"{r.ratio:.2f}",
        ]
        for r in report.races
    ]
    head = ["precision", "merino-edge tokens/s", "transformers.Trainer tokens/s", "ratio"]
    shape = (
        f"GPT-2 of {report.n_params / 1e6:.2f} M parameters ({c.n_layers} layers, {c.d_model} wide,"
        f" vocabulary {c.vocab_size}), {c.batch_size} windows of {c.seq_len} tokens a step,"
        f" {c.threads} threads, {c.rounds} rounds of {c.steps} steps"
    )
    about = headline(report.provenance).replace(", one core", "")
    return f"{shape}; {about}\n\n{table(head, rows)}"
