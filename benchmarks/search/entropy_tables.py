"""Is the closed form of the entropy right, what does it save, and what does it say of known models?

The one idea: the same mean three ways, for every matrix shape of a space. The definition is a
sum over the singular values of random matrices; a Cholesky factor of the same matrices gives the
same sum sooner; the closed form draws nothing. Closed form and draws differ by the spread of the
draws, the two ways of drawing only by rounding. Times are of the whole table, drawing included.

Then the entropy of decoders that people know, with each form of the effectiveness: a reader who
knows how well they train can judge the forms.

Results go to a JSON file, Markdown to stdout. Times are those of one core; take them on a quiet
machine. The file says if others were busy.

Example:
  OMP_NUM_THREADS=1 python benchmarks/search/entropy_tables.py --space paper
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from known_models import KNOWN_MODELS, KnownModel
from reports import Provenance, headline, new_parser, provenance, results_folder, run_script

from merino_edge.cli.output import Progress, human_count, table
from merino_edge.core import space as spaces
from merino_edge.core.entropy import FORMS, EntropyConfig, matrix_entropy, network_entropy
from merino_edge.core.entropy_table import by_svd, monte_carlo, space_shapes
from merino_edge.errors import SpecError, UsageError
from merino_edge.formats.measurement import Conditions
from merino_edge.runtime.conditions import conditions_between, snapshot

SCHEMA = "merino-edge.entropy-benchmark/1"
GAMMA0S = (1 / 32, 1 / 16, 1 / 8)


class ShapeRow(NamedTuple):
    """One shape three ways; means in nats, times in seconds for all its draws.

    Attributes:
        m: The smaller side.
        n: The larger side.
        closed_form: The formula.
        drawn_mean: Of the draws, by Cholesky.
        drawn_std: Their standard deviation.
        svd_mean: Of the same draws, by singular values.
        closed_form_s: Time of the formula.
        cholesky_s: Time to draw and to factor.
        svd_s: Time to draw and to decompose.
        draws: How many.
    """

    m: int
    n: int
    closed_form: float
    drawn_mean: float
    drawn_std: float
    svd_mean: float
    closed_form_s: float
    cholesky_s: float
    svd_s: float

    draws: int

    @property
    def standard_error(self) -> float:
        """Of the mean of the draws, relative to it."""
        return self.drawn_std / sqrt(self.draws) / self.drawn_mean

    @property
    def closed_form_difference(self) -> float:
        """Of the closed form from the draws, relative."""
        return self.closed_form / self.drawn_mean - 1.0

    @property
    def svd_difference(self) -> float:
        """Of singular values from Cholesky, relative."""
        return self.svd_mean / self.drawn_mean - 1.0


class Effect(NamedTuple):
    """What one form of the effectiveness makes of a model.

    Attributes:
        form: As in ``EntropyConfig``.
        gamma0: Its constant; None for the form that has none.
        effectiveness: The factor.
        total: Nats times the factor.
    """

    form: str
    gamma0: float | None
    effectiveness: float
    total: float


class ModelRow(NamedTuple):
    """The entropy of a known model.

    Attributes:
        name: As it is usually called.
        n_layers: Its depth.
        n_params: What it stores.
        raw: Nats before the effectiveness.
        gamma: Depth to width.
        effects: One for each form and constant.
    """

    name: str
    n_layers: int
    n_params: int
    raw: float
    gamma: float
    effects: tuple[Effect, ...]


class Report(NamedTuple):
    """What the JSON file holds.

    Attributes:
        provenance: When, where, with which versions.
        conditions: Whether the machine was quiet.
        space: Whose shapes.
        eps: Noise level of the entropies.
        seed: Of the draws.
        shapes: The three ways, ascending.
        models: The known models.
    """

    provenance: Provenance
    conditions: Conditions
    space: str
    eps: float
    seed: int
    shapes: tuple[ShapeRow, ...]
    models: tuple[ModelRow, ...]


def timed(compute: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and the seconds that it took."""
    start = time.perf_counter()
    value = compute()
    return value, time.perf_counter() - start


def measure_shape(m: int, n: int, eps: float, draws: int, seed: int) -> ShapeRow:
    """The three ways, for one shape."""
    matrix_entropy.cache_clear()  # it would answer from memory
    closed_form, closed_form_s = timed(lambda: matrix_entropy(m, n, eps))
    drawn, cholesky_s = timed(lambda: monte_carlo(m, n, eps, draws, seed))
    svd, svd_s = timed(lambda: by_svd(m, n, eps, draws, seed))
    means = closed_form, drawn.mean, drawn.std, svd.mean
    return ShapeRow(m, n, *means, closed_form_s, cholesky_s, svd_s, draws)


def measure_model(model: KnownModel, eps: float) -> ModelRow:
    """The entropy of a known model under every form."""
    effects = []
    for form, gamma0 in forms():
        config = EntropyConfig(eps=eps, form=form, gamma0=gamma0 or GAMMA0S[0])
        score = network_entropy(model.architecture, config)
        effects.append(Effect(form, gamma0, score.effectiveness, score.total))
    depth = model.architecture.n_layers
    return ModelRow(model.name, depth, model.n_params, score.raw, score.gamma, tuple(effects))


def forms() -> Iterator[tuple[str, float | None]]:
    """Every form with every constant; "off" has none."""
    for form in FORMS:
        for gamma0 in (None,) if form == "off" else GAMMA0S:
            yield form, gamma0


def measure(options: argparse.Namespace) -> Report:
    """Measure every shape of a space, and the known models.

    Raises:
        SpecError: ``eps``, ``draws`` or ``seed`` is out of range.
        UsageError: There is no such space, or BLAS may use several cores.
    """
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise UsageError("times are those of one core.", hint="set OMP_NUM_THREADS=1.")
    EntropyConfig(eps=options.eps)
    if options.draws < 2:
        raise SpecError(f"is {options.draws}; a spread needs at least 2.", field="draws")
    shapes, progress = space_shapes(spaces.get(options.space)), Progress("entropy")
    made, before, rows = provenance(("numpy",)), snapshot(), []
    for number, (m, n) in enumerate(shapes, 1):
        progress.update(f"{m} x {n}, {number} of {len(shapes)} shapes")
        rows.append(measure_shape(m, n, options.eps, options.draws, options.seed))
    return Report(
        provenance=made,
        conditions=conditions_between(before, snapshot(), made.machine.n_cores),
        space=options.space,
        eps=options.eps,
        seed=options.seed,
        shapes=tuple(rows),
        models=tuple(measure_model(model, options.eps) for model in KNOWN_MODELS.values()),
    )


def markdown(report: Report) -> str:
    """The report for people."""
    return "\n\n".join(sections(report).values())


def sections(report: Report) -> dict[str, str]:
    """Name of a mark -> what stands there."""
    rows = report.shapes
    title = (
        f"Space `{report.space}`: {len(rows)} shapes, {rows[0].draws} draws each, "
        f"eps {report.eps:g}, seed {report.seed}."
    )
    warnings = [f"Warning: {each}" for each in report.conditions.warnings]
    errors = [row.standard_error for row in rows]
    noise = f"\nLargest standard error of a row's draws, relative: {max(errors):.1e}."
    ways = [headline(report.provenance), title, *warnings, _ways(rows) + noise]
    return {"entropy_ways": "\n\n".join(ways), "entropy_models": _models(report.models)}


def _ways(rows: tuple[ShapeRow, ...]) -> str:
    """Each way's time for the whole table, and how far it is from its neighbour."""
    ways = (
        ("closed form", "closed_form_s", "closed_form_difference"),
        ("draws, Cholesky", "cholesky_s", None),
        ("draws, singular values", "svd_s", "svd_difference"),
    )
    lines = []
    for name, seconds, difference in ways:
        total = f"{sum(getattr(row, seconds) for row in rows):.3g}"
        lines.append((name, total, *(_differences(rows, difference) if difference else ("", ""))))
    return table(("way", "seconds", "from Cholesky, mean", "most"), lines)


def _differences(rows: tuple[ShapeRow, ...], name: str) -> tuple[str, str]:
    """The mean relative difference of all shapes, and the largest with its place."""
    found = [getattr(row, name) for row in rows]
    worst = max(rows, key=lambda row: abs(getattr(row, name)))
    return (
        f"{sum(found) / len(found):+.1e}",
        f"{getattr(worst, name):+.1e} at {worst.m} x {worst.n}",
    )


def _models(rows: tuple[ModelRow, ...]) -> str:
    """Entropy, gamma and every effectiveness of the known models."""
    names = [form if gamma0 is None else f"{form} {Fraction(gamma0)}" for form, gamma0 in forms()]
    header = ("model", "layers", "parameters", "nats", "gamma", *names)
    lines = [
        (
            row.name,
            str(row.n_layers),
            human_count(row.n_params),
            f"{row.raw:,.0f}",
            f"{row.gamma:.4f}",
            *(f"{effect.effectiveness:.3f}" for effect in row.effects),
        )
        for row in rows
    ]
    return table(header, lines)


def main() -> None:
    """Measure, save, print."""
    parser = new_parser(__doc__, results_folder(__file__) / "entropy_tables.json")
    parser.add_argument("--space", default="paper", metavar="NAME", help="a preset (paper)")
    parser.add_argument("--eps", type=float, default=1.0, metavar="X", help="noise level (1)")
    parser.add_argument("--draws", type=int, default=16, metavar="N", help="for each shape (16)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws (0)")
    run_script(parser, SCHEMA, measure, markdown)


if __name__ == "__main__":
    main()
