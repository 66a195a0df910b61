"""What ``layouts.py`` found: the records of its JSON file, and the same as Markdown tables.

The one idea: times and engines were measured here, bytes of a step on a Nano are worked out from
counts; the tables never mix the two, and whatever a board would show is called predicted.
"""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from engines import Built, heading
from reports import Provenance
from variants import HEADS, LAYOUTS, SHIPPED

from merino_edge.cli.output import table
from merino_edge.formats.measurement import Conditions, Summary

SCHEMA = "merino-edge.cache-layouts/1"
BANDWIDTH_SOURCE = "CUDA bandwidthTest on a Nano, in github.com/kreier/llama.cpp-jetson at cba793e"


class Setting(NamedTuple):
    """What was run.

    Attributes:
        context_len: Rows of the cache.
        buckets: Lengths of a past that we ship.
        positions: Tokens in the cache.
        rounds: Samples of each time.
        steps: Tokens of a sample.
        seed: Of the weights.
        nano_bytes_per_s: How fast a Nano's GPU reads.
    """

    context_len: int
    buckets: list[int]
    positions: list[int]
    rounds: int
    steps: int
    seed: int
    nano_bytes_per_s: float


class StepTime(NamedTuple):
    """A token of one layout at one position, in ONNX Runtime, float32.

    Attributes:
        layout: Its name.
        position: Tokens in the cache.
        past_len: Rows that the graph reads, hidden ones included.
        samples_ms: Mean of a step, one a round.
        step: Their summary.
    """

    layout: str
    position: int
    past_len: int
    samples_ms: list[float]
    step: Summary


class Engine(NamedTuple):
    """What TensorRT-RTX makes of one layout, in half precision, with both profiles."""

    layout: str
    built: Built


class Model(NamedTuple):
    """One decoder.

    Attributes:
        name: As in ``decoders.NAMES``.
        n_params: Stored.
        step_weight_bytes: Half-precision matrices that a step reads; a block that is applied
            twice is read twice, since a Nano's 256 KB of cache keep none.
        kv_bytes_per_token: In half precision.
        logits_difference: Largest between layouts, relative to the largest logit.
        conditions: Of the timing.
        times: Layouts by positions.
        engines: Layouts.
    """

    name: str
    n_params: int
    step_weight_bytes: int
    kv_bytes_per_token: int
    logits_difference: float
    conditions: Conditions
    times: list[StepTime]
    engines: list[Engine]


class Report(NamedTuple):
    """What the JSON file holds."""

    provenance: Provenance
    setting: Setting
    models: list[Model]


def sections(report: Report) -> dict[str, str]:
    """Name of a table -> its Markdown."""
    return {
        "times": "\n".join((_conditions(report), *(_times(report, m) for m in report.models))),
        "engines": _engines(report),
        "reads": "\n".join(_reads(report, model) for model in report.models),
    }


def markdown(report: Report) -> str:
    """All tables."""
    return "\n".join(sections(report).values())


def _conditions(report: Report) -> str:
    setting = report.setting
    lines = [
        f"{heading(report.provenance)}, seed {setting.seed}. "
        f"Milliseconds for a token in float32 on one core, median of {setting.rounds} rounds of "
        f"{setting.steps} tokens; behind it the ratio to the layout that we ship, median and "
        "quartiles of the rounds.",
        "",
    ]
    for model in report.models:
        lines += [f"Warning ({model.name}): {text}\n" for text in model.conditions.warnings]
    return "\n".join(lines)


def _times(report: Report, model: Model) -> str:
    positions = report.setting.positions
    rows = []
    for layout in _names(model.times):
        cells = [_time(model.times, layout, position) for position in positions]
        rows.append((layout, *cells))
    return table((model.name, *(f"at {p}" for p in positions)), rows)


def _time(times: Sequence[StepTime], layout: str, position: int) -> str:
    found = {t.layout: t for t in times if t.position == position}
    ours, shipped = found[layout].samples_ms, found[SHIPPED].samples_ms
    ratios = sorted(a / b for a, b in zip(ours, shipped, strict=True))
    n = len(ratios)
    low, high = ratios[n // 4], ratios[n - 1 - n // 4]
    return f"{found[layout].step.p50:.3g}, {median(ratios):.3f} ({low:.3f} to {high:.3f})"


def _engines(report: Report) -> str:
    rows = []
    for model in report.models:
        for engine in model.engines:
            built = engine.built
            if built.plan_bytes is None:
                rows.append((model.name, engine.layout, f"refused: {built.refusal}", "", "", ""))
                continue
            ratio = built.plan_bytes / (2 * model.n_params)
            size = f"{built.plan_bytes / 1e6:.1f}"
            facts = (f"{ratio:.3f}", f"{built.build_s:.1f}", f"{built.n_layers:,}")
            rows.append((model.name, engine.layout, size, *facts))
    header = ("decoder", "layout", "engine, MB", "of 2 x parameters", "build, s", "layers")
    return table(header, rows)


def _reads(report: Report, model: Model) -> str:
    setting = report.setting
    rows = []
    for layout in LAYOUTS:
        kept = [
            (layout.past_len(position, setting.buckets), copied)
            for position, copied in [(p, 0) for p in setting.positions]
            + [(setting.positions[-1], 1)]
        ]
        moved = sum(axes[0] != HEADS for axes in (layout.key, layout.value)) / 2
        cells = []
        for past_len, copied in kept:
            n_bytes = step_bytes(model, past_len, moved if copied else 0.0)
            cells.append(f"{n_bytes / 1e6:.1f}, {1e3 * n_bytes / setting.nano_bytes_per_s:.2f}")
        rows.append((layout.name, *cells))
    ends = [f"at {p}: MB, ms" for p in setting.positions]
    return table((model.name, *ends, f"at {setting.positions[-1]}, if copied"), rows)


def step_bytes(model: Model, past_len: int, moved_share: float) -> float:
    """Bytes of a step: weights, and the past's rows.

    Args:
        model: The decoder.
        past_len: Rows of the past.
        moved_share: Part of the cache that is also copied into another order: read here, written,
            and read again.
    """
    cache = past_len * model.kv_bytes_per_token
    return model.step_weight_bytes + cache * (1.0 + 2.0 * moved_share)


def _names(times: Sequence[StepTime]) -> list[str]:
    return list(dict.fromkeys(time.layout for time in times))
