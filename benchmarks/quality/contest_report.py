"""What a contest found: its record, and its tables.

The one idea: contestants are compared seed by seed. A seed decides the order of the windows for all
of them alike, so what it does to everybody falls out of a difference. Torch is not needed to read.
"""

from statistics import mean
from typing import Any, NamedTuple

from reports import Provenance

from merino_edge.cli.output import human_count, table

SCHEMA = "merino-edge.contest/1"
TEXTS = ("wikitext2", "ptb")


class Run(NamedTuple):
    """One training.

    Attributes:
        contestant: Its name.
        seed: Of the first weights and of the order of windows.
        n_tokens: That it was trained on.
        learning_rate: Its peak.
        val_loss: Nats per token of the corpus's held-out part.
        val_bits_per_byte: The same, for any vocabulary.
        train_s: Seconds, on a machine that did other things as well.
        scores: Text -> metric -> value, of ``merino-edge eval``; empty for a trial of a rate.
        curve: Tokens seen, and bits per byte then, of the beginning of the held-out part alone:
            what validations during a training look at.
    """

    contestant: str
    seed: int
    n_tokens: int
    learning_rate: float
    val_loss: float
    val_bits_per_byte: float
    train_s: float
    scores: dict[str, dict[str, float]]
    curve: list[list[float]] = []


class Report(NamedTuple):
    """All trainings.

    Attributes:
        provenance: Date, machine, versions.
        settings: The options that decide the outcome.
        runs: Trials of rates first.
    """

    provenance: Provenance
    settings: dict[str, Any]
    runs: list[Run]


def markdown(report: Report) -> str:
    """One row a contestant and seed; then, of those with several seeds, how far apart they are."""
    head = ("", "seed", "tokens", "rate", "bits per byte: held out", *TEXTS)
    words = [f"perplexity of a word: {text}" for text in TEXTS]
    every = table((*head, *words), [_row(run) for run in report.runs if run.scores])
    apart = seeds_table(report)
    return f"{every}\n\n{apart}" if apart else every


def _row(run: Run) -> tuple[str, ...]:
    return (
        run.contestant,
        str(run.seed),
        human_count(run.n_tokens),
        str(run.learning_rate),
        f"{run.val_bits_per_byte:.4f}",
        *(f"{run.scores[text]['bits_per_byte']:.4f}" for text in TEXTS),
        *(f"{run.scores[text]['word_perplexity_eos']:.1f}" for text in TEXTS),
    )


def seeds_table(report: Report) -> str:
    """Of those who were trained with several seeds: how much more bits than the first they need."""
    scored = [run for run in report.runs if run.scores]
    several = {run.contestant for run in scored if run.seed}
    names = list(dict.fromkeys(run.contestant for run in scored if run.contestant in several))
    if not names:
        return ""
    head = ("", "seeds", "held out: mean", *(f"{name}, more" for name in ("held out", *TEXTS)))
    return table(head, [_seeds_row(name, names[0], scored) for name in names])


def _seeds_row(name: str, first: str, scored: list[Run]) -> tuple[str, ...]:
    own, other = ({r.seed: _bits(r) for r in scored if r.contestant == n} for n in (name, first))
    seeds = sorted(own.keys() & other.keys())
    gaps = ([own[seed][k] - other[seed][k] for seed in seeds] for k in range(1 + len(TEXTS)))
    told = (
        f"{mean(gap):+.4f} ({', '.join(f'{each:+.4f}' for each in gap)})" if any(gap) else ""
        for gap in gaps
    )
    return name, str(len(seeds)), f"{mean(own[seed][0] for seed in seeds):.4f}", *told


def _bits(run: Run) -> tuple[float, ...]:
    """Bits per byte: held out, and of each text."""
    return run.val_bits_per_byte, *(run.scores[text]["bits_per_byte"] for text in TEXTS)
