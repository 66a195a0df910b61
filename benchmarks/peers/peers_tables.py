"""The tables of a report, by the name of their mark in README.md.

It words figures and measures none. What did not run stands in the table with its reason.
"""

from collections.abc import Sequence

from contestants import TITLES
from peers_report import (
    ModelResult,
    Report,
    Row,
    Spread,
    bit_class,
    fastest_peer,
    fastest_prefill,
    ratios,
    spread,
)

from merino_edge.cli.output import table

CLASSES = ("4 bits", "8 bits", "16 or 32 bits")


def sections(report: Report) -> dict[str, str]:
    """Name of a mark -> what stands there."""
    found = {"peers_conditions": conditions(report)}
    for model in report.models:
        found[f"{model.name}_decode"] = decode_table(model, report.setting.pasts)
        found[f"{model.name}_others"] = others_table(model)
        found[f"{model.name}_roofline"] = roofline_table(model, report.setting.pasts)
        found[f"{model.name}_who"] = who_table(model)
    return found


def conditions(report: Report) -> str:
    """One paragraph above the tables: where, when, what of, and whether to believe it."""
    setting, machine = report.setting, report.machine
    versions = ", ".join(f"{k} {v}" for k, v in report.versions.items() if v)
    simd = [f for f in report.cpu_flags if f in ("avx2", "avx512_vnni", "avx512_bf16", "amx_int8")]
    simd += [f for f in report.cpu_flags if f in ("asimd", "asimddp", "i8mm", "sve")]
    others = max((i.others_share for m in report.models for i in m.intervals), default=0.0)
    steal = max((i.steal_share for m in report.models for i in m.intervals), default=0.0)
    lines = [
        f"{machine.cpu}, {machine.n_cores} cores ({', '.join(simd)}), {setting.threads} threads "
        f"for everybody; {versions}; {report.date}, seed {setting.seed}.",
        f"{setting.rounds} rounds of {setting.n_tokens} tokens at each past, "
        f"{setting.starts} starts. Load before {report.load_before:.2f}; other processes at most "
        f"{others:.1%} of the cores in a round, stolen at most {steal:.1%}.",
    ]
    lines += [f"**Mistrust these figures: {each}**" for each in report.warnings]
    return "\n".join(lines)


def decode_table(model: ModelResult, pasts: Sequence[int]) -> str:
    """Milliseconds of a token; the ratio to the fastest peer of the class; what of the roofline."""
    header = ["milliseconds a token", *(f"past {past:,}" for past in pasts)]
    header += [f"{pasts[-1]:,} / {pasts[0]:,}"]
    header += [f"× fastest peer, {past:,}" for past in pasts] + [f"roofline at {pasts[0]:,}"]
    rows = []
    for row in _in_classes(model.rows):
        if row.decode_ms:
            rows.append(_decode_cells(model, row, pasts))
        else:
            rows.append((row.name, f"did not run: {row.failure}", *[""] * (len(header) - 2)))
    return table(header, rows)


def _decode_cells(model: ModelResult, row: Row, pasts: Sequence[int]) -> tuple[str, ...]:
    samples = [row.decode_ms.get(str(past), []) for past in pasts]
    grown = ratios(samples[-1], samples[0]).median if samples[-1] else None
    cells = [f"{_number(spread(s).median)}" if s else "" for s in samples]
    cells.append(f"{grown:.2f}" if grown else "")
    cells += [_ratio_cell(model, row, past) for past in pasts]
    return (row.name, *cells, _roofline_share(model, row, pasts[0]))


def _ratio_cell(model: ModelResult, row: Row, past: int) -> str:
    peer = fastest_peer(model.rows, bit_class(row.bits), past)
    samples = row.decode_ms.get(str(past))
    if peer is None or not samples:
        return ""
    if peer is row:
        return "fastest peer"
    return _with_quartiles(ratios(samples, peer.decode_ms[str(past)]))


def _roofline_share(model: ModelResult, row: Row, past: int) -> str:
    """For ours: time of only reading over time of a step, in the same rounds."""
    line = next((r for r in model.rooflines if row.name.endswith(" " + r.precision)), None)
    if not row.ours or line is None or not line.decode_ms.get(str(past)):
        return ""
    return f"{ratios(line.decode_ms[str(past)], row.decode_ms[str(past)]).median:.0%}"


def others_table(model: ModelResult) -> str:
    """Prompt, start, memory, file, and whether it computes the same."""
    header = ["", "prefill, tokens/s", "× fastest peer's rate", "load to first token, ms"]
    header += ["with its process, ms", "peak memory, MB", "file, MB", "as float32"]
    rows = []
    for row in _in_classes(model.rows):
        if row.failure is not None and not row.prefill_tok_per_s:
            continue
        peer = fastest_prefill(model.rows, bit_class(row.bits))
        rows.append(
            (
                row.name,
                _maybe(row.prefill_tok_per_s, lambda s: f"{spread(s).median:,.0f}"),
                _rate_cell(row, peer),
                _maybe(row.first_token_s, _milliseconds),
                _maybe(row.process_s, _milliseconds),
                _megabytes(row.peak_bytes),
                _megabytes(row.file_bytes),
                f"{row.agrees} of {row.of}" + (" *" if row.follows_itself else ""),
            )
        )
    return table(header, rows)


def _rate_cell(row: Row, peer: Row | None) -> str:
    if peer is None or not row.prefill_tok_per_s:
        return ""
    if peer is row:
        return "fastest peer"
    return _with_quartiles(ratios(row.prefill_tok_per_s, peer.prefill_tok_per_s))


def roofline_table(model: ModelResult, pasts: Sequence[int]) -> str:
    """Bytes of a step, and how long reading them takes and how fast that is."""
    header = ["only reading", "stored, MB", "executed, MB", "cache, kB a token"]
    header += [f"past {past:,}: ms" for past in pasts] + [f"GB/s at {pasts[0]:,}"]
    rows = []
    for line in model.rooflines:
        samples = [line.decode_ms.get(str(past), []) for past in pasts]
        n_bytes = line.executed_bytes + pasts[0] * line.kv_bytes_per_token
        rate = f"{n_bytes / spread(samples[0]).median / 1e6:.1f}" if samples[0] else line.failure
        rows.append(
            (
                f"of {line.precision}",
                f"{line.stored_bytes / 1e6:.1f}",
                f"{line.executed_bytes / 1e6:.1f}",
                f"{line.kv_bytes_per_token / 1e3:.1f}",
                *(_maybe(s, lambda found: _number(spread(found).median)) for s in samples),
                rate or "",
            )
        )
    return table(header, rows)


def who_table(model: ModelResult) -> str:
    """What each says that it runs, which way won its trial, who is out; and a stand-in's work."""
    lines = []
    for row in _in_classes(model.rows):
        tried = ", ".join(f"{k} {_number(v) if v else 'failed'}" for k, v in row.trials.items())
        asleep = f"; asleep it used {row.asleep_share:.1%} of a core" if row.asleep_share else ""
        trial = f"; trial, ms a token at 512: {tried}" if tried else ""
        lines.append(f"* **{row.name}**: {row.about or row.failure}{trial}{asleep}.")
    lines += [f"* **{name}** takes no part: {why}." for name, why in model.refusals.items()]
    if model.work != model.peer_work:
        ours, theirs = model.work, model.peer_work
        lines.append(
            f"\nPeers run a stand-in. A token of {TITLES[model.name]} costs "
            f"{ours.body_macs / 1e6:.2f} M multiplications in {ours.n_layers} layers, "
            f"{ours.head_macs / 1e6:.2f} M in the head and {ours.kv_values_per_token:,} numbers of "
            f"cache; one of the stand-in {theirs.body_macs / 1e6:.2f} M in {theirs.n_layers}, "
            f"{theirs.head_macs / 1e6:.2f} M and {theirs.kv_values_per_token:,}. It stores "
            f"{theirs.stored_params / 1e6:.1f} M numbers, we {ours.stored_params / 1e6:.1f} M."
        )
    return "\n".join(lines)


def _in_classes(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (CLASSES.index(bit_class(row.bits)), not row.ours))


def _maybe(samples, words) -> str:
    return words(samples) if samples else ""


def _milliseconds(samples: Sequence[float]) -> str:
    return f"{1e3 * spread(samples).median:,.0f}"


def _megabytes(n_bytes: int | None) -> str:
    return "" if n_bytes is None else f"{n_bytes / 1e6:,.0f}"


def _with_quartiles(found: Spread) -> str:
    return f"{found.median:.3f} ({found.low:.3f} to {found.high:.3f})"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
