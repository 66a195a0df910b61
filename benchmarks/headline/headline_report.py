"""What the headline found, and its tables.

The one idea: the tables stand in the order of what they rest on: counted, built, predicted, then
measured; the last one has nothing but ratios, with the reference's value above ours, so that a
larger number speaks for ours. Nothing is rounded before it is divided.
"""

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from decoders_compared import OURS, REFERENCE
from reports import Provenance, headline

from merino_edge.cli.output import human_bytes, human_count, table

SCHEMA = "merino-edge.headline/1"


class Size(NamedTuple):
    """What follows from a shape.

    Attributes:
        model: Its name.
        n_params: Stored.
        n_params_executed: As often as they are applied.
        body_flops: Of 1024 tokens, without the head: the convention of the paper's budgets.
        whole_flops: The same with logits of every token.
        nano_decode_ms, nano_prefill_ms: Predicted: the roofline of target "nano", a lower bound.
        engine_bytes: Of TensorRT-RTX's engine in half precision; None where it was not built.
    """

    model: str
    n_params: int
    n_params_executed: int
    body_flops: int
    whole_flops: int
    nano_decode_ms: float
    nano_prefill_ms: float
    engine_bytes: int | None


class Times(NamedTuple):
    """One decoder in one form on this machine.

    Attributes:
        model: Its name.
        backend, precision: The form.
        bundle_bytes: Of what this form's backend reads.
        peak_rss_bytes: Of the process, the largest of all rounds.
        itl_ms: Median time of a token, of each round.
        prefill_ms: Of the prompt, likewise.
    """

    model: str
    backend: str
    precision: str
    bundle_bytes: int
    peak_rss_bytes: int
    itl_ms: list[float]
    prefill_ms: list[float]


class Report(NamedTuple):
    """Everything.

    Attributes:
        provenance: Date, machine, versions.
        threads: Of the backends.
        n_prompt, n_gen: Tokens of the prompt, and generated.
        sizes, times: One decoder each; one decoder in one form each.
    """

    provenance: Provenance
    threads: int
    n_prompt: int
    n_gen: int
    sizes: list[Size]
    times: list[Times]


def markdown(report: Report) -> str:
    """The tables, one below the other."""
    return "\n".join(sections(report).values())


def sections(report: Report) -> dict[str, str]:
    """Name of a mark -> its table."""
    threads = f"{report.threads} thread{'' if report.threads == 1 else 's'}"
    work = f"a prompt of {report.n_prompt} tokens, {report.n_gen} generated"
    return {
        "headline_conditions": f"{headline(report.provenance, threads)}; {work}\n",
        "headline_sizes": _sizes(report),
        "headline_times": _times(report),
        "headline_ratios": _ratios(report),
    }


def _sizes(report: Report) -> str:
    head = ("", "stored", "executed", "FLOPs of 1024 tokens, body", "with all logits")
    head += (
        "engine, fp16 (built)",
        "Nano: a token, ms (predicted)",
        "Nano: prompt, ms (predicted)",
    )
    rows = [
        (
            size.model,
            human_count(size.n_params),
            human_count(size.n_params_executed),
            human_count(size.body_flops),
            human_count(size.whole_flops),
            "-" if size.engine_bytes is None else human_bytes(size.engine_bytes),
            f"{size.nano_decode_ms:.1f}",
            f"{size.nano_prefill_ms:.0f}",
        )
        for size in report.sizes
    ]
    return table(head, rows)


def _times(report: Report) -> str:
    head = ("", "backend", "weights", "bundle", "peak memory", "a token, ms", "prompt, ms")
    rows = [
        (
            each.model,
            each.backend,
            each.precision,
            human_bytes(each.bundle_bytes),
            human_bytes(each.peak_rss_bytes),
            _spread(each.itl_ms),
            _spread(each.prefill_ms),
        )
        for each in report.times
    ]
    return table(head, rows)


def _ratios(report: Report) -> str:
    """What the reference takes over what ours take: larger is better for ours."""
    sizes = {size.model: size for size in report.sizes}
    ours = [name for name in sizes if name.startswith(OURS)]
    if REFERENCE not in sizes or not ours:
        return "(no ratios: they need ours and the reference)\n"
    other = sizes[REFERENCE]
    rows = [
        ("stored parameters", *(f"{other.n_params / sizes[o].n_params:.2f}" for o in ours)),
        ("FLOPs, body", *(f"{other.body_flops / sizes[o].body_flops:.2f}" for o in ours)),
        ("FLOPs with logits", *(f"{other.whole_flops / sizes[o].whole_flops:.2f}" for o in ours)),
        ("Nano, a token (predicted)", *_over(other, sizes, ours, "nano_decode_ms")),
        ("Nano, prompt (predicted)", *_over(other, sizes, ours, "nano_prefill_ms")),
    ]
    if all(sizes[name].engine_bytes for name in (REFERENCE, *ours)):
        rows.append(("engine bytes (built)", *_over(other, sizes, ours, "engine_bytes")))
    by_form: dict[tuple[str, str], dict[str, Times]] = {}
    for each in report.times:
        by_form.setdefault((each.backend, each.precision), {})[each.model] = each
    for (backend, precision), found in by_form.items():
        form = f"{backend} {precision}"
        rows.append((f"bundle, {form}", *_over(found[REFERENCE], found, ours, "bundle_bytes")))
        rows.append(
            (f"a token, {form} (measured)", *_over(found[REFERENCE], found, ours, "itl_ms"))
        )
        times = _over(found[REFERENCE], found, ours, "prefill_ms")
        rows.append((f"prompt, {form} (measured)", *times))
    return table((f"{REFERENCE} over", *ours), rows)


def _over(other: Any, all_of: dict[str, Any], ours: list[str], field: str) -> Iterator[str]:
    for name in ours:
        yield f"{_middle(getattr(other, field)) / _middle(getattr(all_of[name], field)):.2f}"


def _middle(value: Any) -> float:
    return statistics.median(value) if isinstance(value, list) else float(value)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
