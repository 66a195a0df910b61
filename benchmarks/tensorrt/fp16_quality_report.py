"""What ``fp16_quality.py`` measures, as records, and the tables it prints."""

from collections.abc import Sequence
from typing import NamedTuple

from reports import Provenance

from merino_edge.cli.output import table
from merino_edge.export.range_check import TensorRange

SCHEMA = "merino-edge.fp16-quality/1"


class Setting(NamedTuple):
    """What was run. Nothing is drawn at random, so there is no seed.

    Attributes:
        model: Name of the bundles.
        fp32_bundle: Identity of the one in single precision.
        fp16_bundle: Of the one in half precision.
        text: Name of the file.
        text_sha256: Of its part that was tokenised.
        n_tokens: Taken from its beginning.
        window: Tokens that see each other.
        n_new: Greedy tokens for each prompt.
        threads: Of the CPU.
    """

    model: str
    fp32_bundle: str
    fp16_bundle: str
    text: str
    text_sha256: str
    n_tokens: int
    window: int
    n_new: int
    threads: int


class Perplexity(NamedTuple):
    """Of the text.

    Attributes:
        value: Over all windows; the first token of each is not predicted.
        change: Against single precision, as a share of it.
        windows: Of each window.
    """

    value: float
    change: float
    windows: list[float]


class Continuation(NamedTuple):
    """Greedy tokens in half precision, beside those of single precision.

    Attributes:
        prompt: What is continued.
        n_equal: Tokens before the two part; all of them where they do not.
        expected: Where they part, single precision's token, as text.
        chosen: Half precision's.
        margin: By how much single precision prefers its own, in logits.
        share: The margin as a share of the largest logit there.
    """

    prompt: str
    n_equal: int
    expected: str | None = None
    chosen: str | None = None
    margin: float | None = None
    share: float | None = None


class Quality(NamedTuple):
    """Of one way of computing in half precision.

    Attributes:
        how: Which way.
        perplexity: Beside single precision's.
        n_prompts_equal: Continuations that are equal to the last token.
        continuations: Of each prompt.
    """

    how: str
    perplexity: Perplexity
    n_prompts_equal: int
    continuations: list[Continuation]


class Ranges(NamedTuple):
    """How large activations become over the text, in a float32 twin of the graph.

    Attributes:
        n_activations: Half-precision values that were watched.
        n_errors: Beyond 65504.
        n_warnings: Beyond a quarter of it.
        largest: The ten largest.
    """

    n_activations: int
    n_errors: int
    n_warnings: int
    largest: list[TensorRange]


class Report(NamedTuple):
    """What the JSON file holds.

    Attributes:
        provenance: When, where, with what.
        setting: What was run.
        fp32: Perplexity in single precision; its ``change`` is 0.
        onnx_runtime: Half precision as ONNX Runtime computes it on x86.
        half_sums: The emulation that adds up in half precision; None where it was left out.
        ranges: Of the half-precision graph.
    """

    provenance: Provenance
    setting: Setting
    fp32: Perplexity
    onnx_runtime: Quality
    half_sums: Quality | None
    ranges: Ranges


def markdown(report: Report) -> str:
    """Three tables: quality, where continuations part, the largest activations."""
    ways = [way for way in (report.onnx_runtime, report.half_sums) if way is not None]
    return "\n".join((_quality(report, ways), _partings(ways), _largest(report.ranges)))


def _quality(report: Report, ways: Sequence[Quality]) -> str:
    rows = [("float32", f"{report.fp32.value:.4f}", "", "")]
    for way in ways:
        equal = f"{way.n_prompts_equal} of {len(way.continuations)}"
        found = way.perplexity
        rows.append((way.how, f"{found.value:.4f}", f"{found.change:+.3%}", equal))
    header = ("half precision", "perplexity", "change", f"equal for {report.setting.n_new} tokens")
    return table(header, rows)


def _partings(ways: Sequence[Quality]) -> str:
    rows = [
        (way.how, repr(c.prompt), str(c.n_equal), repr(c.expected), repr(c.chosen), _margin(c))
        for way in ways
        for c in way.continuations
        if c.margin is not None
    ]
    return table(("parts", "prompt", "after", "float32", "half", "margin"), rows)


def _margin(parting: Continuation) -> str:
    return f"{parting.margin:.4f} ({parting.share:.2%})"


def _largest(ranges: Ranges) -> str:
    rows = [(r.node, f"{r.max_abs:.6g}", f"{r.share:.1%}") for r in ranges.largest]
    title = f"largest of {ranges.n_activations} activations"
    return table((title, "absolute value", "of 65504"), rows)
