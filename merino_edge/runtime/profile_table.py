"""The latency table of a journal: every sample at the speed that the anchor showed as a rule.

The one idea: a line of the journal has what a probe took and what the anchor took beside it. Their
ratio, times what the anchor takes as a rule (the median of the whole run), is milliseconds again.
Lines during which the board throttled are left out where there are enough others.
"""

from typing import Any, Dict, List

from merino_edge import __version__
from merino_edge.formats.latency_table import MEASURED, LatencyRow, LatencyTable, Workload
from merino_edge.formats.measurement import Conditions, percentile
from merino_edge.formats.probes import ProbeSet
from merino_edge.runtime.profile_journal import Journal, Line
from merino_edge.runtime.telemetry import Telemetry

FEWEST_ROUNDS = 4


def table_of(probes: ProbeSet, journal: Journal, conditions: Conditions) -> LatencyTable:
    """The table of a journal's lines, each sample at the anchor's usual speed."""
    lines, header = journal.lines, journal.header
    usual_ms = _usual_ms(lines)
    by_row = {}  # type: Dict[Any, List[Line]]
    for line in sorted(lines, key=lambda each: each.round):
        for label in line.ms:
            by_row.setdefault((line.probe, label), []).append(line)
    return LatencyTable(
        space=probes.space,
        seed=probes.seed,
        provenance=MEASURED,
        made_by="merino-edge {}".format(__version__),
        begun=header.begun,
        setting=header.setting,
        device=header.device,
        conditions=conditions,
        anchor=probes.anchor,
        anchor_ms=usual_ms,
        architectures=probes.architectures,
        roles=probes.roles,
        rows=[_row(key, by_row[key], usual_ms) for key in sorted(by_row)],
        idle_power_w=next((line.idle_w for line in lines if line.idle_w is not None), None),
    )


def with_throttling(conditions: Conditions, lines: List[Line], telemetry: Telemetry) -> Conditions:
    """Conditions that say of how many lines the board throttled, and what telemetry warns of."""
    n_throttled = sum(line.throttled for line in lines)
    warnings = conditions.warnings + telemetry.warnings
    if n_throttled:
        text = "the board throttled in {} of {} samples; their rows are marked."
        warnings.append(text.format(n_throttled, len(lines)))
    throttled = n_throttled > 0 if telemetry.tells_throttling else None
    return conditions._replace(throttled=throttled, warnings=warnings)


def _usual_ms(lines: List[Line]) -> Dict[str, float]:
    """Phase -> what the anchor took as a rule."""
    seen = {}  # type: Dict[str, List[float]]
    for line in lines:
        for label, ms in line.beside_ms.items():
            seen.setdefault(Workload.of_label(label).phase, []).append(ms)
    return {phase: percentile(sorted(found), 50) for phase, found in seen.items()}


def _row(key: Any, lines: List[Line], usual_ms: Dict[str, float]) -> LatencyRow:
    probe, label = key
    cool = [line for line in lines if not line.throttled]
    if len(cool) >= FEWEST_ROUNDS:  # else the row keeps what it has, and is marked
        lines = cool
    usual = usual_ms[Workload.of_label(label).phase]
    samples = [line.ms[label] * usual / line.beside_ms[label] for line in lines]
    energies = [line.energy_mj[label] for line in lines if label in line.energy_mj]
    peaks = [line.peak_rss_bytes for line in lines if line.peak_rss_bytes is not None]
    return LatencyRow(
        architecture=probe,
        workload=label,
        samples_ms=[round(ms, 6) for ms in samples],
        raw_ms=[round(line.ms[label], 6) for line in lines],
        rounds=[line.round for line in lines],
        throttled=any(line.throttled for line in lines),
        energy_mj=percentile(sorted(energies), 50) if energies else None,
        peak_rss_bytes=max(peaks) if peaks else None,
    )
