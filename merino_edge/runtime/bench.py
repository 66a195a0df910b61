"""Time prefill and decode of a loaded bundle: BenchCase in, BenchReport out.

The one idea: what is timed is the backend alone, on random token ids; tokenising, sampling and text
are left out, because they are not what a backend is chosen for (``run --json`` times those too).
Every case begins with a reset and an untimed prefill to its depth; warm-up runs are whole
repetitions that are thrown away. Machine conditions are recorded around each case.

Where the board shows its power, it is measured idle first and then over the timed repetitions, so
that the energy of a token can be stated both ways: all of it, and above idle.
"""

import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from merino_edge import __version__
from merino_edge.errors import SessionError
from merino_edge.formats.bench_report import BenchCase, BenchReport
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.measurement import Conditions, summarize
from merino_edge.runtime import roofline
from merino_edge.runtime.conditions import conditions_between, snapshot
from merino_edge.runtime.device_info import device_info
from merino_edge.runtime.memory import peak_rss_bytes
from merino_edge.runtime.session import GenerationSession
from merino_edge.runtime.telemetry import Telemetry, Watch

Note = Callable[[str], None]


class _Samples(NamedTuple):
    """Nanoseconds of each repetition, and of each single step in them."""

    total_ns: List[int]
    step_ns: List[int]


def run_bench(
    bundle: Bundle,
    session: GenerationSession,
    cases: Sequence[BenchCase],
    seed: int = 0,
    on_note: Optional[Note] = None,
    telemetry: Optional[Telemetry] = None,
) -> List[BenchReport]:
    """Measure every case, then this machine's memory bandwidth.

    Args:
        bundle: What the session was loaded from.
        session: Is reset, and left reset.
        cases: All are checked before the first is measured.
        seed: Of the token ids.
        on_note: Called with a line of progress before each repetition.
        telemetry: Of the machine that is measured; left out, it is looked for. Is closed.

    Raises:
        SessionError: A case does not fit the context; both numbers are given.
    """
    note = on_note or _silent
    for case in cases:
        _check_fits(case, session)
    with telemetry or Telemetry.open() as watcher:
        watcher.measure_idle(note)
        reports = [_measure(bundle, session, case, seed, note, watcher) for case in cases]
    session.reset()
    if not any(case.n_gen for case in cases):
        return reports
    # Last, because its buffer is larger than many a model and would show in their peak memory.
    note("memory bandwidth")
    bandwidth = roofline.measure_bandwidth(reports[0].device.last_cache_bytes)
    return [roofline.with_roofline(report, bundle, bandwidth) for report in reports]


def _measure(
    bundle: Bundle,
    session: GenerationSession,
    case: BenchCase,
    seed: int,
    note: Note,
    telemetry: Telemetry,
) -> BenchReport:
    device = device_info()
    begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    before = snapshot(telemetry.root)
    with telemetry.watch() as watch:
        samples = _repeat(session, case, seed, note, watch)
    conditions = conditions_between(
        before, snapshot(telemetry.root), device.n_cores, telemetry.root
    )
    manifest = bundle.manifest
    ns_per_token = summarize(samples.total_ns, "ns").mean / case.n_tokens
    mean_w = watch.mean_w(case.label)
    return BenchReport(
        merino_edge_version=__version__,
        bundle=manifest.name,
        bundle_id=bundle.bundle_id,
        backend=session.backend.name,
        engine=session.backend.description,
        precision=manifest.precision,
        model_size=roofline.weights_bytes(bundle, session.backend.name),
        model_n_params=manifest.n_params,
        seed=seed,
        test_time=begun,
        kv_cache_bytes=session.backend.kv_cache_bytes,
        peak_rss_bytes=peak_rss_bytes(),
        roofline=None,
        roofline_fraction=None,
        provenance="measured",
        device=device,
        conditions=_with_telemetry(conditions, watch, telemetry),
        **case._asdict(),
        **_speed(case, samples),
        **_power(mean_w, ns_per_token, telemetry),
    )


def _speed(case: BenchCase, samples: _Samples) -> Dict[str, Any]:
    """The fields of a report that say how fast it was."""
    per_s = [case.n_tokens / (1e-9 * ns) for ns in samples.total_ns]
    total, speed = summarize(samples.total_ns, "ns"), summarize(per_s, "tok/s")
    steps_ms = summarize([ns / 1e6 for ns in samples.step_ns], "ms")
    return dict(
        avg_ns=round(total.mean),
        stddev_ns=None if total.std is None else round(total.std),
        avg_ts=speed.mean,
        stddev_ts=speed.std,
        ci95_ts=speed.ci95,
        samples_ns=samples.total_ns,
        samples_ts=per_s,
        ttft_ms=steps_ms if case.n_prompt else None,
        itl_ms=steps_ms if case.n_gen else None,
    )


def _power(mean_w: Optional[float], ns_per_token: float, telemetry: Telemetry) -> Dict[str, Any]:
    """The fields that say what the board took: watts times the time of a token.

    All None where no power was measured.
    """
    if mean_w is None or telemetry.source is None:
        return dict(power_w=None, energy_mj_per_token=None)
    ms, idle_w = 1e-6 * ns_per_token, telemetry.idle_w
    return dict(
        power_w=mean_w,
        energy_mj_per_token=mean_w * ms,
        idle_power_w=idle_w,
        energy_above_idle_mj_per_token=None if idle_w is None else (mean_w - idle_w) * ms,
        power_source=telemetry.source.name,
    )


def _with_telemetry(conditions: Conditions, watch: Watch, telemetry: Telemetry) -> Conditions:
    """Conditions that say whether the board throttled, and what telemetry warns of."""
    warnings = conditions.warnings + telemetry.warnings
    if watch.throttled:
        by = ": " + ", ".join(watch.limited_by) if watch.limited_by else ""
        warnings.append("the board throttled while this was measured{}.".format(by))
    return conditions._replace(throttled=watch.throttled, warnings=warnings)


def _repeat(
    session: GenerationSession, case: BenchCase, seed: int, note: Note, watch: Watch
) -> _Samples:
    """Warm up, then measure; ids are drawn once, so that every repetition does the same work."""
    rng = np.random.RandomState(seed)
    before = rng.randint(0, session.backend.vocab_size, case.n_depth)
    ids = rng.randint(0, session.backend.vocab_size, case.n_tokens)
    samples = _Samples([], [])
    for repetition in range(-case.warmup, case.repetitions):
        kind = "warm-up" if repetition < 0 else "{}/{}".format(repetition + 1, case.repetitions)
        note("{} {}".format(case.label, kind))
        session.reset()
        if case.n_depth:
            session.prefill(before)
        start_s = time.perf_counter()
        steps_ns = _time_prompt(session, ids) if case.n_prompt else _time_steps(session, ids)
        if repetition >= 0:
            watch.add(case.label, start_s, time.perf_counter())
            samples.total_ns.append(sum(steps_ns))
            samples.step_ns.extend(steps_ns)
    return samples


def _time_prompt(session: GenerationSession, ids: np.ndarray) -> List[int]:
    start = time.perf_counter()
    session.prefill(ids)
    return [_ns_since(start)[0]]


def _time_steps(session: GenerationSession, ids: np.ndarray) -> List[int]:
    steps_ns = []
    step = session.step
    start = time.perf_counter()
    for token_id in ids.tolist():
        step(token_id)
        elapsed_ns, start = _ns_since(start)
        steps_ns.append(elapsed_ns)
    return steps_ns


def _ns_since(start: float) -> Tuple[int, float]:
    """Nanoseconds since ``start``, and now (perf_counter_ns is Python 3.7)."""
    now = time.perf_counter()
    return round(1e9 * (now - start)), now


def _check_fits(case: BenchCase, session: GenerationSession) -> None:
    needed = case.n_depth + case.n_tokens
    if needed > session.context_len:
        raise SessionError(
            "{} needs {} positions, the context holds {}.".format(
                case.label, needed, session.context_len
            ),
            hint="choose smaller -p, -n or -d, or build the bundle with a longer --context.",
        )


def _silent(text: str) -> None:
    pass
