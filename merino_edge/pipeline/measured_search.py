"""A search that keeps its promise: by measured latencies, and by measuring what it finds.

The one idea: a table states an interval, and the search holds its *upper* end under the limit. That
leaves room unused, and may still be wrong. So finalists are built and timed, each beside the
decoder of the table that is most like it; what they took over what was foretold corrects the model
for the next search, near which it is asked again; and the interval shrinks to what is left in
doubt. It ends when a finalist that was measured holds and leaves little unused, or after so many.

Not known here: whether the finalist is any good. Weights are random.
"""

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from merino_edge.core import targets
from merino_edge.core.latency_fit import fit_table
from merino_edge.core.latency_work import stored_in
from merino_edge.core.space import SearchSpace
from merino_edge.core.table_latency import TableLatency
from merino_edge.core.targets import Target
from merino_edge.errors import BudgetError, UsageError
from merino_edge.export.probes import build_probe
from merino_edge.export.recipe import RECIPES, in_precision
from merino_edge.formats.architecture import Architecture, describe
from merino_edge.formats.latency_table import DECODE, PREDICTED, ROLES, LatencyTable
from merino_edge.pipeline.closest_row import closest_row, last_token
from merino_edge.pipeline.confirmed import Confirmed
from merino_edge.pipeline.predicted_table import roofline_ms
from merino_edge.pipeline.profile import opener
from merino_edge.runtime.beside import Timed, time_beside
from merino_edge.runtime.device_info import device_info
from merino_edge.search.result import SearchResult

LITTLE = 0.05  # of the limit: a finalist that leaves less unused is not searched beyond
CERTAIN = 1.012  # spread of a corrected model: another decoder of nearly the same size
DOUBT = 0.01  # more spread for each finalist that missed its limit

Progress = Callable[[str], None]
Ask = Callable[[TableLatency], SearchResult]


class Measure(Protocol):
    """Builds and times a decoder.

    Attributes:
        provenance: "measured", or "predicted" by what only stands for a device.
    """

    @property
    def provenance(self) -> str:
        """Of what it gives."""

    def __call__(self, architecture: Architecture) -> Timed:
        """What one of its tokens takes."""


def table_latency(
    table: LatencyTable, path: str, target: Target, space: SearchSpace
) -> tuple[TableLatency, Target]:
    """The latency model of a table, and the target in the table's precision, with its power.

    Memory counts the words of an int4 bundle like its other weights, though they stay in int8.

    Raises:
        UsageError: The table is of another target, or too short for the space's context.
        SpecError: It has too few rows.
    """
    setting = table.setting
    if setting.target != target.name:
        raise UsageError(
            f"'{path}' was measured for the target '{setting.target}', not for '{target.name}'.",
            hint=f"add --target {setting.target}, or measure: merino-edge profile --target "
            f"{target.name} -o table.json",
        )
    if space.max_seq_len > setting.context_len:
        raise UsageError(
            f"'{path}' was measured up to a context of {setting.context_len}, the search asks for "
            f"{space.max_seq_len}.",
            hint=f"add --context {setting.context_len}, or measure with --context "
            f"{space.max_seq_len}.",
        )
    target = target._replace(
        precision=setting.precision,
        bytes_per_weight=stored_in(setting.precision).weight,
        power_w=measured_power_w(table) or target.power_w,
    )
    return fit_table(table), target


def measured_power_w(table: LatencyTable) -> float | None:
    """Median power of decoding, idle included; None where no rail was read.

    Power hardly depends on which decoder runs, so energy is this times a token's time.
    """
    powers = [
        row.energy_mj / row.latency_ms.p50  # mJ / ms
        for role in ROLES
        for row in table.rows_of(role, DECODE)
        if row.energy_mj is not None
    ]
    return median(powers) if powers else None


def confirm(
    ask: Ask,
    model: TableLatency,
    limit_ms: float,
    most: int,
    measure: Measure,
    on_finalist: Callable[[Confirmed], None] = lambda finalist: None,
) -> list[Confirmed]:
    """Search and measure until a finalist holds.

    Args:
        ask: A search by a latency model.
        model: The table's.
        limit_ms: Of a token.
        most: Finalists to measure.
        measure: Builds and times a decoder.
        on_finalist: Told of each.

    Returns:
        All that were measured; ``chosen`` picks one.

    Raises:
        BudgetError: Nothing in the space is fast enough, by what was measured.
    """
    found: list[Confirmed] = []
    corrected = model
    while len(found) < most:
        result = ask(corrected)
        a, cost = result.best.architecture, result.best.cost
        if any(a == each.result.best.architecture for each in found):
            break
        assert cost.latency_ms is not None  # a table knows tokens, or the search was refused
        assert cost.latency_high_ms is not None
        measured = measure(a)
        foretold = cost.latency_ms, cost.latency_high_ms
        found.append(Confirmed(result, limit_ms, *foretold, measured, measure.provenance))
        on_finalist(found[-1])
        if found[-1].passed and found[-1].unused <= LITTLE:
            break
        corrected = _corrected(model, corrected.factor, found)
    return found


def chosen(found: Sequence[Confirmed]) -> Confirmed:
    """Of the finalists that held, the one that the search likes best.

    Raises:
        BudgetError: None held; says what they took.
    """
    held = [each for each in found if each.passed]
    if held:
        return max(held, key=lambda each: each.result.best.entropy.total)
    closest = min(found, key=lambda each: each.measured.ms)
    raise BudgetError(
        f"none of {len(found)} measured finalists kept {closest.limit_ms:.3f} ms; the closest, "
        f"{describe(closest.result.best.architecture)}, took {closest.measured.ms:.3f} ± "
        f"{closest.measured.half_ms:.3f} ms.",
        closest=closest.result.best,
        hint="measure more of them (--confirm 8), or profile this machine again while it is quiet.",
    )


def _corrected(model: TableLatency, factor: float, found: Sequence[Confirmed]) -> TableLatency:
    """The model, as far off as the finalists showed; the last one counts half."""
    last = found[-1]
    seen = math.log(factor * last.measured.ms / last.predicted_ms)
    before = math.log(factor) if len(found) > 1 else seen
    missed = sum(not each.passed for each in found)
    certainty = CERTAIN + DOUBT * missed + last.measured.half_ms / last.measured.ms
    return model.corrected(math.exp((seen + before) / 2.0), certainty)


@dataclass(frozen=True)
class Bench:
    """Builds and times decoders on this machine, beside decoders of a table.

    Attributes:
        table: Its setting is used; what its rows say is the speed that is quoted.
        context_len: Of the search: a token is timed at its end.
        on_progress: Told what is being done.
    """

    table: LatencyTable
    context_len: int
    on_progress: Progress = lambda text: None

    def __post_init__(self) -> None:
        here = device_info()
        if self.table.provenance == PREDICTED:
            return
        if self.table.device.cpu != here.cpu or self.table.device.model != here.model:
            raise UsageError(
                f"the table was measured on {self.table.device.model}, this is {here.model}.",
                note="finalists must be measured where the table was.",
                hint="add --host user@board, leave out --confirm, or measure this machine: "
                "merino-edge profile.",
            )

    @property
    def provenance(self) -> str:
        """Of its figures: the table's own."""
        return self.table.provenance

    def __call__(self, architecture: Architecture) -> Timed:
        """What one token takes at the end of the context."""
        setting, load = self.table.setting, last_token(self.table, self.context_len)
        if self.table.provenance == PREDICTED:
            ms = roofline_ms(architecture, load, targets.get(setting.target))
            return Timed(ms, 0.0, ms, 1)
        recipe = in_precision(RECIPES[setting.target], setting.precision)
        self.on_progress(f"building and timing {describe(architecture)}")
        row = closest_row(self.table, architecture, load)
        pair = {"finalist": architecture, "beside": self.table.architectures[row.architecture]}
        with tempfile.TemporaryDirectory() as folder:
            paths = {name: os.path.join(folder, name) for name in pair}
            for name, a in pair.items():
                build_probe(a, setting.target, setting.context_len, paths[name], recipe)
            return time_beside(
                paths["finalist"],
                paths["beside"],
                row,
                load.length,
                self.table.seed,
                opener(setting.backend, setting.threads),
            )
