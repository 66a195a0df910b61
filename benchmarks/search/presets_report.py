"""What `presets.py` found: the records of its JSON file, and the same as Markdown tables.

The one idea: the records hold counts, and every ratio is worked out from them here, so that none
can disagree with what it is a ratio of.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from reports import Provenance, budget_name, headline

from merino_edge.cli.output import human_count, table
from merino_edge.core.budget import Budget
from merino_edge.formats.architecture import Architecture, describe
from merino_edge.search.exact import Certificate

SCHEMA = "merino-edge.presets/1"
NOMINAL_PARAMS = 350_000_000  # what the name OPT-350M says; the model stores 331.2M
PAPER_SIZE_RATIO, PAPER_FLOPS_RATIO = 5.5, 4.5  # of its 64M model, in a convention not published
_PAPER_PARAMS = 64_000_000


class Size(NamedTuple):
    """Counts of a decoder.

    Attributes:
        n_params: Stored, embeddings included.
        body_flops: Of a prompt of 1024 tokens.
        body_and_head_flops: The same with a row of logits for each token.
    """

    n_params: int
    body_flops: int
    body_and_head_flops: int


class Evolution(NamedTuple):
    """One seed.

    Attributes:
        seed: Of its chances.
        arch_id: What it found.
        entropy: Of that, times the effectiveness, in nats.
        gap: How far that is below the proven optimum, as a fraction of it.
        seconds: All of the search; nothing is proven.
    """

    seed: int
    arch_id: str
    entropy: float
    gap: float
    seconds: float


class Ours(NamedTuple):
    """The proven best of one budget.

    Attributes:
        budget: The limits.
        architecture: What is proven.
        arch_id: Of it.
        size: Its counts.
        n_params_unshared: What it would store if no layer shared its weights with another.
        n_layers: As applied.
        entropy: Times the effectiveness, in nats.
        effectiveness: The factor alone.
        certificate: The proof.
        exact_s: Seconds of the exact method, the short evolution before the proof included.
        proof_s: Seconds of the proof alone.
        evolutions: The seeds.
    """

    budget: Budget
    architecture: Architecture
    arch_id: str
    size: Size
    n_params_unshared: int
    n_layers: int
    entropy: float
    effectiveness: float
    certificate: Certificate
    exact_s: float
    proof_s: float
    evolutions: tuple[Evolution, ...]

    @property
    def spread(self) -> float:
        """Between the best and the worst seed, as a fraction of the best."""
        totals = [run.entropy for run in self.evolutions]
        return 1.0 - min(totals) / max(totals)


class Report(NamedTuple):
    """What the JSON file holds; ``reference`` is OPT-350M."""

    provenance: Provenance
    space: str
    candidates: int
    population: int
    reference: Size
    ours: tuple[Ours, ...]


def markdown(report: Report) -> str:
    """All tables, for a page."""
    n_seeds = len(report.ours[0].evolutions)
    parts = [
        f"{headline(report.provenance)}. Space `{report.space}`; {n_seeds} seeds of "
        f"{report.candidates:,} candidates, population {report.population}. FLOPs of 1024 tokens.",
        _shape_table(report.ours),
        _search_table(report.ours),
        "How many times smaller than OPT-350M "
        f"({human_count(report.reference.n_params)} parameters; "
        f"{human_count(report.reference.body_flops)} FLOPs without and "
        f"{human_count(report.reference.body_and_head_flops)} with the head):",
        _ratio_table(report.ours, report.reference),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts)


def _shape_table(ours: Sequence[Ours]) -> str:
    header = ("budget", "architecture", "layers", "parameters", "unshared", "FLOPs", "with head")
    return table(
        header,
        [
            (
                budget_name(one.budget),
                describe(one.architecture).replace("|", "/"),  # a bar would end the cell
                str(one.n_layers),
                human_count(one.size.n_params),
                f"{human_count(one.n_params_unshared)} "
                f"(sharing saves {1.0 - one.size.n_params / one.n_params_unshared:.0%})",
                human_count(one.size.body_flops),
                human_count(one.size.body_and_head_flops),
            )
            for one in ours
        ],
    )


def _search_table(ours: Sequence[Ours]) -> str:
    header = ("budget", "entropy", "certificate", "exact", "of it proof", "evolution")
    return table(
        (*header, "spread of seeds", "worst seed below the optimum"),
        [
            (
                budget_name(one.budget),
                f"{one.entropy:,.0f} nats",
                _proof(one.certificate),
                f"{one.exact_s:.2f} s",
                f"{one.proof_s:.2f} s",
                f"{median(run.seconds for run in one.evolutions):.2f} s",
                f"{one.spread:.4%}",
                f"{max(run.gap for run in one.evolutions):.4%}",
            )
            for one in ours
        ],
    )


def _proof(certificate: Certificate) -> str:
    looked = f"{certificate.n_visited:,} of {certificate.n_chains:,} chains"
    if certificate.complete:
        return f"optimal ({looked} looked into)"
    return f"at most {certificate.gap:.3%} below the best ({looked} looked into)"


def _ratio_table(ours: Sequence[Ours], reference: Size) -> str:
    """Each ratio under every convention, and the paper's beside those of its largest model."""
    header = ("budget", "parameters", "by its name", "FLOPs, body", "FLOPs, body and head")
    rows: list[tuple[str, ...]] = [
        (
            budget_name(one.budget),
            _ratio(reference.n_params, one.size.n_params),
            _ratio(NOMINAL_PARAMS, one.size.n_params),
            _ratio(reference.body_flops, one.size.body_flops),
            _ratio(reference.body_and_head_flops, one.size.body_and_head_flops),
        )
        for one in ours
    ]
    sizes = [_ratio(n_params, _PAPER_PARAMS) for n_params in (reference.n_params, NOMINAL_PARAMS)]
    rows.append(("64M by its name", *sizes, "", ""))
    claim, flops = f"{PAPER_SIZE_RATIO} ×", f"{PAPER_FLOPS_RATIO} × (convention not published)"
    rows.append(("paper's 64M", "", claim, flops, ""))
    return table(header, rows)


def _ratio(larger: int, smaller: int) -> str:
    return f"{larger / smaller:.2f} ×"
