"""What ``run.py`` found: the records of its JSON file, and how samples become figures.

A sample is one round's: the median of its tokens, or the rate of its prompt. A ratio is taken
within a round, where both ran within seconds of each other; shown are its median and quartiles
over the rounds. Nothing here measures.
"""

from collections.abc import Sequence
from typing import NamedTuple

from quiet import Interval
from stand_in import Work

from merino_edge.formats.measurement import DeviceInfo, percentile

SCHEMA = "merino-edge.benchmark-peers/1"


class Setting(NamedTuple):
    """What was asked of everybody.

    Attributes:
        pasts: Steps are timed around these lengths of the past.
        n_tokens: Steps timed at each in a round; half of them lie before the past's length.
        prompt_len: Tokens of the prompt whose rate is measured.
        rounds: Rounds that count; one more before them does not.
        starts: How often each was started anew.
        first_prompt_len: Tokens of a start's prompt.
        threads, context_len, seed: For all.
    """

    pasts: list[int]
    n_tokens: int
    prompt_len: int
    rounds: int
    starts: int
    first_prompt_len: int
    threads: int
    context_len: int
    seed: int


class Row(NamedTuple):
    """One contestant.

    Attributes:
        name, bits, ours: See ``contestants``.
        about: What it says that it runs: versions, kernels.
        file_bytes: What it opened.
        variant: The way that won its trial.
        trials: Way -> milliseconds of a token in the trial; None for one that failed.
        decode_ms: Past -> median of each round's tokens.
        decode_p90_ms: Past -> 90th percentile of each round's tokens.
        prefill_tok_per_s: Of each round.
        first_token_s: Loading and a first token, libraries imported; of each start.
        process_s: The same from the start of its process.
        peak_bytes: The most memory of its process, mapped files included.
        agrees, of: Greedy tokens as in float32, of those that are no near-tie.
        follows_itself: It cannot be given tokens: after a first difference all may differ.
        asleep_share: Of a core, used while others ran.
        failure: Why there is nothing, or nothing more.
    """

    name: str
    bits: int
    ours: bool
    about: str = ""
    file_bytes: int | None = None
    variant: str = ""
    trials: dict[str, float | None] = {}
    decode_ms: dict[str, list[float]] = {}
    decode_p90_ms: dict[str, list[float]] = {}
    prefill_tok_per_s: list[float] = []
    first_token_s: list[float] = []
    process_s: list[float] = []
    peak_bytes: int | None = None
    agrees: int | None = None
    of: int | None = None
    follows_itself: bool = False
    asleep_share: float | None = None
    failure: str | None = None


class Roofline(NamedTuple):
    """Only reading, in the same rounds.

    Attributes:
        precision: Of our file.
        stored_bytes: Matrices that a step needs, each once.
        executed_bytes: As often as they are applied.
        kv_bytes_per_token: Of our cache.
        decode_ms: Past -> of each round.
        failure: Why there is nothing.
    """

    precision: str
    stored_bytes: int
    executed_bytes: int
    kv_bytes_per_token: int
    decode_ms: dict[str, list[float]] = {}
    failure: str | None = None


class ModelResult(NamedTuple):
    """One model.

    Attributes:
        name: A key of ``contestants.TITLES``.
        work, peer_work: Of a token, ours and what peers ran; equal where they run the same.
        rows, rooflines, refusals: What was found; refusals are (name, why).
        intervals: Quietness of the round before the others, and of each round.
    """

    name: str
    work: Work
    peer_work: Work
    rows: list[Row]
    rooflines: list[Roofline]
    refusals: dict[str, str]
    intervals: list[Interval]


class Report(NamedTuple):
    """The file.

    Attributes:
        date, seconds: When it began, in UTC, and how long it took.
        load_before: Mean of the last minute.
        versions: Of our side; peers name theirs in ``Row.about``.
        machine, cpu_flags: Where.
        setting: What was asked.
        warnings: Why to mistrust the figures; empty on a quiet machine.
        models: One each.
    """

    date: str
    seconds: float
    load_before: float
    versions: dict[str, str | None]
    machine: DeviceInfo
    cpu_flags: list[str]
    setting: Setting
    warnings: list[str]
    models: list[ModelResult]


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float


def spread(samples: Sequence[float]) -> Spread:
    """Of at least one sample."""
    ordered = sorted(samples)
    return Spread(*(percentile(ordered, percent) for percent in (50, 25, 75)))


def ratios(samples: Sequence[float], to: Sequence[float]) -> Spread:
    """Of pairs from the same round; a contestant that fell out early has fewer."""
    return spread([a / b for a, b in zip(samples, to, strict=False)])


def bit_class(bits: int) -> str:
    """Rows are compared with peers of the same class."""
    return {4: "4 bits", 8: "8 bits"}.get(bits, "16 or 32 bits")


def fastest_peer(rows: Sequence[Row], of_class: str, past: int) -> Row | None:
    """The peer with the smallest median at a past; None where no peer of the class ran."""
    found = [r for r in _peers(rows, of_class) if r.decode_ms.get(str(past))]
    return min(found, key=lambda r: spread(r.decode_ms[str(past)]).median, default=None)


def fastest_prefill(rows: Sequence[Row], of_class: str) -> Row | None:
    """The peer with the largest median rate of a prompt."""
    found = [r for r in _peers(rows, of_class) if r.prefill_tok_per_s]
    return max(found, key=lambda r: spread(r.prefill_tok_per_s).median, default=None)


def _peers(rows: Sequence[Row], of_class: str) -> list[Row]:
    return [row for row in rows if not row.ours and bit_class(row.bits) == of_class]
