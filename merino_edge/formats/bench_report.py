"""What a benchmark measured, with all that is needed to doubt it.

The names are llama-bench's where it has one (n_prompt, n_gen, n_depth, avg_ns, stddev_ns, avg_ts,
stddev_ts, samples_ns, samples_ts, test_time), so that its users and scripts feel at home, and ours
beside them. The one idea: raw samples stay in the report; every average can be computed again.

A file holds a JSON list of reports, or one report a line.
"""

import csv
import io
import json
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from merino_edge.errors import FormatError, SpecError
from merino_edge.formats import jsonio
from merino_edge.formats.measurement import Conditions, DeviceInfo, Summary

SCHEMA = "merino-edge.bench/1"
TABLE_HEADER = (
    "model", "size", "params", "backend", "test", "t/s", "ms/token p50", "p95", "of bandwidth",
)  # fmt: skip


class BenchCase(NamedTuple):
    """One test: a prompt of n_prompt tokens, or n_gen tokens one by one, after n_depth others."""

    n_prompt: int
    n_gen: int
    n_depth: int = 0
    repetitions: int = 5
    warmup: int = 1

    @property
    def label(self) -> str:
        """llama-bench's name: "pp128", "tg64", "tg64 @ d256"."""
        name = "pp{}".format(self.n_prompt) if self.n_prompt else "tg{}".format(self.n_gen)
        return name + (" @ d{}".format(self.n_depth) if self.n_depth else "")

    @property
    def n_tokens(self) -> int:
        """Tokens that are timed in one repetition."""
        return self.n_prompt or self.n_gen


class Roofline(NamedTuple):
    """What decoding would cost if it were nothing but reading memory.

    Attributes:
        read_bytes_per_s: This machine's read bandwidth, measured in the same run.
        bytes_per_token: What one token must read.
        counted: Which bytes those are.
        method: How the bandwidth was measured.
        executed_bytes: What one token reads if a shared block is read anew each time; None in
            reports of earlier versions.
    """

    read_bytes_per_s: float
    bytes_per_token: int
    counted: str
    method: str
    executed_bytes: Optional[int] = None


class BenchReport(NamedTuple):
    """One case, measured on one device.

    Attributes:
        merino_edge_version: What measured.
        bundle: Name of the bundle.
        bundle_id: Its checksum, in twelve digits.
        backend: Name of the backend.
        engine: Library, version and threads in one line.
        precision: Of the stored weights.
        model_size: Bytes of the weights file.
        model_n_params: Stored parameters.
        n_prompt, n_gen, n_depth, repetitions, warmup: The case.
        seed: Of the random token ids.
        test_time: When it began, UTC.
        avg_ns, stddev_ns: One repetition; stddev is None for a single one.
        avg_ts, stddev_ts, ci95_ts: Tokens per second, and the half width of its 95 % interval.
        samples_ns, samples_ts: One value for each repetition.
        ttft_ms: Prompt to logits, for a prompt; without tokenising and sampling.
        itl_ms: Token to token, for generated ones, over all repetitions.
        kv_cache_bytes: Allocated for the cache.
        peak_rss_bytes: Most memory the process had held when the case ended.
        roofline: None for prompts, which compute more than they read.
        roofline_fraction: Roofline time over measured time; None where there is no roofline, or
            where the weights fit the CPU's cache and memory bandwidth is not what limits.
        power_w: Mean power of the whole board while it ran; None where nothing measured it.
        energy_mj_per_token: Of a token of the prompt, or a generated one, idle power included;
            None as above.
        provenance: "measured" (a "predicted" report would be another kind of file).
        device, conditions: Where, and how it was there.
        idle_power_w: Of the board with the model loaded and nothing running; None as above.
        energy_above_idle_mj_per_token: What the work added to it; None as above.
        power_source: Which rail that is; None as above.
    """

    merino_edge_version: str
    bundle: str
    bundle_id: str
    backend: str
    engine: str
    precision: str
    model_size: int
    model_n_params: int
    n_prompt: int
    n_gen: int
    n_depth: int
    repetitions: int
    warmup: int
    seed: int
    test_time: str
    avg_ns: int
    stddev_ns: Optional[int]
    avg_ts: float
    stddev_ts: Optional[float]
    ci95_ts: Optional[float]
    samples_ns: List[int]
    samples_ts: List[float]
    ttft_ms: Optional[Summary]
    itl_ms: Optional[Summary]
    kv_cache_bytes: int
    peak_rss_bytes: int
    roofline: Optional[Roofline]
    roofline_fraction: Optional[float]
    power_w: Optional[float]
    energy_mj_per_token: Optional[float]
    provenance: str
    device: DeviceInfo
    conditions: Conditions
    idle_power_w: Optional[float] = None
    energy_above_idle_mj_per_token: Optional[float] = None
    power_source: Optional[str] = None

    @property
    def case(self) -> BenchCase:
        """The case it answers."""
        return BenchCase(self.n_prompt, self.n_gen, self.n_depth, self.repetitions, self.warmup)


def cross_product(
    prompts: Sequence[int],
    gens: Sequence[int],
    depths: Sequence[int],
    repetitions: int,
    warmup: int,
) -> List[BenchCase]:
    """The cases of comma lists: every prompt and every generation length, at every depth.

    Raises:
        SpecError: All lengths are zero.
    """
    cases = []
    for depth in depths:
        cases += [BenchCase(n, 0, depth, repetitions, warmup) for n in prompts if n]
        cases += [BenchCase(0, n, depth, repetitions, warmup) for n in gens if n]
    if not cases:
        raise SpecError("there is nothing to measure: n_prompt and n_gen are both 0.")
    return cases


def document(report: BenchReport) -> Dict[str, Any]:
    """A report as plain JSON values, its schema first."""
    plain = {"schema": SCHEMA}
    plain.update(jsonio.encode(report))
    return plain


def read_reports(path: str) -> List[BenchReport]:
    """Reports of a file that ``bench -o json`` or ``-o jsonl`` wrote.

    Raises:
        FormatError: Not such a file.
        SchemaVersionError: Of another version.
    """
    documents = []
    for item in _read_documents(path):
        jsonio.check_schema(item, SCHEMA, path)
        documents.append({key: value for key, value in item.items() if key != "schema"})
    return [
        jsonio.decode(BenchReport, item, path, "[{}]".format(i)) for i, item in enumerate(documents)
    ]


def table_row(report: BenchReport) -> Tuple[str, ...]:
    """Cells under TABLE_HEADER."""
    per_token = report.itl_ms
    fraction = report.roofline_fraction
    return (
        report.bundle,
        "{:.1f} MB".format(report.model_size / 1e6),
        "{:.2f} M".format(report.model_n_params / 1e6),
        report.backend,
        report.case.label,
        _with_spread(report.avg_ts, report.stddev_ts),
        "-" if per_token is None else "{:.2f}".format(per_token.p50),
        "-" if per_token is None else "{:.2f}".format(per_token.p95),
        "-" if fraction is None else "{:.0f} %".format(100 * fraction),
    )


def csv_text(reports: Sequence[BenchReport]) -> str:
    """All reports as CSV: nested fields as "device.cpu", lists joined by spaces."""
    rows = [dict(_flat(document(report), "")) for report in reports]
    columns = []  # type: List[str]
    for row in rows:
        columns += [name for name in row if name not in columns]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _flat(value: Any, name: str) -> List[Tuple[str, Any]]:
    if isinstance(value, dict):
        parts = [_flat(v, name + "." + k if name else k) for k, v in value.items()]
        return [cell for part in parts for cell in part]
    if isinstance(value, list):
        return [(name, " ".join(str(item) for item in value))]
    return [(name, value)]


def _with_spread(value: float, spread: Optional[float]) -> str:
    return "{:.2f}".format(value) + ("" if spread is None else " ± {:.2f}".format(spread))


def _read_documents(path: str) -> List[Any]:
    try:
        found = jsonio.read_json(path)
    except FormatError as error:
        return _read_lines(path, error)
    return found if isinstance(found, list) else [found]


def _read_lines(path: str, first_error: FormatError) -> List[Any]:
    """One JSON document a line; what was wrong with the file as a whole is the error to show."""
    try:
        with open(path, "rb") as stream:
            return [json.loads(line.decode("utf-8")) for line in stream if line.strip()]
    except (ValueError, OSError):
        raise first_error
