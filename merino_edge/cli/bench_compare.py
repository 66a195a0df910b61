"""What ``bench --compare`` adds: the same cases, then and now.

The one idea: a ratio of two runs means something only where the runs differ by more than each of
them spreads, and where nothing but what is compared differs. So a case is faster or slower only
where no repetition of one run reaches into the other's, and whatever else is not the same (the
machine, the bundle, the backend) is said. It does not know what drifted between the two runs.
"""

import statistics
from typing import Dict, List, NamedTuple, Optional, Tuple

from merino_edge.errors import UsageError
from merino_edge.formats.bench_report import BenchCase, BenchReport

HEADER = ("test", "t/s then", "t/s now", "now / then", "verdict")
Key = Tuple[int, int, int]


class Earlier(NamedTuple):
    """Reports of a file.

    Attributes:
        path: Of the file.
        reports: By the lengths of the case; of several with the same, the last.
    """

    path: str
    reports: Dict[Key, BenchReport]


def earlier(path: str, reports: List[BenchReport], cases: List[BenchCase]) -> Earlier:
    """What there is to compare with.

    Raises:
        UsageError: The file has none of the cases.
    """
    found = {_key(report.case): report for report in reports}
    if not any(_key(case) in found for case in cases):
        here = ", ".join(case.label for case in cases)
        there = ", ".join(report.case.label for report in found.values()) or "nothing"
        raise UsageError(
            "there is nothing to compare: this is {}, '{}' has {}.".format(here, path, there),
            hint="choose the same -p, -n and -d.",
        )
    return Earlier(path, found)


def rows(then: Earlier, reports: List[BenchReport]) -> List[Tuple[str, ...]]:
    """Cells under HEADER; a case that is only here has no ratio."""
    return [_row(report, then.reports.get(_key(report.case))) for report in reports]


def differences(then: Earlier, reports: List[BenchReport]) -> List[str]:
    """What else is not the same, each once: "machine: 'A' then, 'B' now"."""
    found = []  # type: List[str]
    for report in reports:
        other = then.reports.get(_key(report.case))
        if other is not None:
            found += [line for line in _differences(other, report) if line not in found]
    return found


def doubts(then: Earlier, reports: List[BenchReport]) -> List[str]:
    """Why to mistrust the earlier run of the cases that are compared, such as a busy machine."""
    pairs = [(report.case.label, then.reports.get(_key(report.case))) for report in reports]
    line = "{}, then: {}"
    return [line.format(name, text) for name, r in pairs if r for text in r.conditions.warnings]


def _differences(then: BenchReport, now: BenchReport) -> List[str]:
    sides = zip(_circumstances(then), _circumstances(now))
    line = "{}: {} then, {} now"
    return [line.format(name, a, b) for (name, a), (_, b) in sides if a != b]


def _circumstances(report: BenchReport) -> List[Tuple[str, str]]:
    device = report.device
    return [
        ("bundle", "{} ({})".format(report.bundle, report.bundle_id)),
        ("weights", report.precision),
        ("engine", report.engine),
        ("machine", "{}, {}, {} cores".format(device.model, device.cpu, device.n_cores)),
        ("power mode", str(report.conditions.power_mode)),
        ("merino-edge", report.merino_edge_version),
    ]


def _row(now: BenchReport, then: Optional[BenchReport]) -> Tuple[str, ...]:
    rate = statistics.median(now.samples_ts)
    if then is None:
        return now.case.label, "-", "{:.2f}".format(rate), "-", "not in the file"
    before = statistics.median(then.samples_ts)
    ratio = "{:.3f}".format(rate / before) if before else "-"
    verdict = _verdict(then.samples_ts, now.samples_ts)
    return now.case.label, "{:.2f}".format(before), "{:.2f}".format(rate), ratio, verdict


def _verdict(then: List[float], now: List[float]) -> str:
    if min(len(then), len(now)) < 2:
        return "one run, no spread"
    if min(now) > max(then):
        return "faster"
    return "slower" if max(now) < min(then) else "not told apart"


def _key(case: BenchCase) -> Key:
    return case.n_prompt, case.n_gen, case.n_depth
