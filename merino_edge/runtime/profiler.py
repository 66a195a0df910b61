"""Time a set of probes on this machine, in rounds, beside an anchor, and never lose a round.

The one idea: machines drift. Their clocks settle, neighbours come and go, and ten minutes later the
same decoder is a fifth slower. So every probe is timed once a round, in an order that changes, and
directly before and after each of its workloads the *anchor*, one probe of middling size: a token
beside tokens, a prompt beside prompts, for the two drift apart. A sample is what the probe took,
divided by what the anchor took beside it; times what the anchor takes as a rule (the median of the
whole run) it is milliseconds again. On a quiet board with locked clocks that changes nothing.

Each probe of each round is one line of a journal (``profile_journal``), so that what was
interrupted goes on with the first line that is missing. A probe whose every sample is known to
``TIGHT`` is not timed again.

Not known here: what the rows are good for. Nothing is fitted, and a board needs numpy only.
"""

import math
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np

from merino_edge import __version__
from merino_edge.errors import StoppedError
from merino_edge.formats import jsonio
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.latency_table import (
    DECODE,
    MEASURED,
    PREFILL,
    LatencyRow,
    LatencyTable,
    Setting,
    Workload,
)
from merino_edge.formats.measurement import Conditions, percentile, t95
from merino_edge.formats.probes import BURST, ProbeSet, probe_folder, prompt_len
from merino_edge.runtime.backend import Backend
from merino_edge.runtime.conditions import conditions_between, others_cpu_share, snapshot
from merino_edge.runtime.device_info import device_info, power_mode
from merino_edge.runtime.memory import peak_rss_bytes
from merino_edge.runtime.profile_journal import SCHEMA, Header, Journal, Line
from merino_edge.runtime.session import GenerationSession
from merino_edge.runtime.telemetry import Telemetry, Watch

TIGHT = 0.01  # half the interval of the median, as a share of it: more rounds would not show
FEWEST_ROUNDS, MOST_ROUNDS = 4, 20
SETTLED = 0.02  # two looks at the anchor that differ by less: clocks have settled
MOST_WARM_UP_S = 10.0
ANCHOR_PROMPT = 64  # tokens
_LEAST_S = 0.025  # of a sample: shorter ones are repeated
_MOST_REPEATS = 20
_ANCHOR_S = 0.02

Note = Callable[[str], None]
OpenSession = Callable[[Bundle], GenerationSession]
OnSpan = Callable[[str, float, float], None]  # phase, from and to, in perf_counter seconds


class Limits(NamedTuple):
    """How long to go on.

    Attributes:
        max_s: Begin no round after so many seconds, once each probe has ``FEWEST_ROUNDS``.
        max_rounds: Most rounds.
        tight: Share of the median that half its interval may be, to be done with a probe.
    """

    max_s: float = math.inf
    max_rounds: int = MOST_ROUNDS
    tight: float = TIGHT


NO_LIMITS = Limits()


def measure(
    probes: ProbeSet,
    folder: str,
    journal_folder: str,
    open_session: OpenSession,
    threads: int,
    limits: Limits = NO_LIMITS,
    on_note: Note = lambda text: None,
    telemetry: Optional[Telemetry] = None,
) -> LatencyTable:
    """Time all probes; goes on with what an earlier call left.

    Args:
        probes: Which.
        folder: Where their bundles lie.
        journal_folder: Where rounds are kept.
        open_session: Makes a session of a bundle, as for any other.
        threads: CPU threads that it uses.
        limits: How long.
        on_note: Told what is being timed.
        telemetry: Of the machine that is measured; left out, it is looked for. Is closed.

    Raises:
        UsageError: The journal is of another measurement.
        FormatError: A bundle is missing or damaged.
        StoppedError: Interrupted; the journal has all that was finished.
    """
    telemetry = telemetry or Telemetry.open()
    telemetry.measure_idle(on_note)
    try:
        with open_session(Bundle.open(probe_folder(folder, probes.anchor))) as anchor:
            setting = _setting(probes, anchor.backend, threads)
        header = Header(SCHEMA, _now(), jsonio.encode(probes), setting, device_info())
        journal = Journal(journal_folder, header)
        run = _Run(probes, folder, open_session, journal, limits, on_note, telemetry)
        before = snapshot()
        run.rounds()
        conditions = conditions_between(before, snapshot(), journal.header.device.n_cores)
        return table_of(probes, journal, _with_throttling(conditions, journal.lines, telemetry))
    except KeyboardInterrupt:
        raise StoppedError("stopped; what was timed is kept in '{}'.".format(journal_folder))
    finally:
        telemetry.close()


def _with_throttling(conditions: Conditions, lines: List[Line], telemetry: Telemetry) -> Conditions:
    """Conditions that say of how many lines the board throttled, and what telemetry warns of."""
    n_throttled = sum(line.throttled for line in lines)
    warnings = conditions.warnings + telemetry.warnings
    if n_throttled:
        text = "the board throttled in {} of {} samples; their rows are marked."
        warnings.append(text.format(n_throttled, len(lines)))
    throttled = n_throttled > 0 if telemetry.tells_throttling else None
    return conditions._replace(throttled=throttled, warnings=warnings)


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


class _Run:
    """One measurement that is going on."""

    def __init__(
        self,
        probes: ProbeSet,
        folder: str,
        open_session: OpenSession,
        journal: Journal,
        limits: Limits,
        note: Note,
        telemetry: Telemetry,
    ):
        self._telemetry = telemetry
        self._probes, self._folder, self._open = probes, folder, open_session
        self._journal, self._limits, self._note = journal, limits, note
        self._begun = time.perf_counter()

    def rounds(self) -> None:
        """All rounds that are still to be done."""
        for index in range(self._limits.max_rounds):
            names = self._due(index)
            if names:
                self._round(index, names)
            if self._out_of_time(index) or (not names and index >= FEWEST_ROUNDS):
                return

    def _round(self, index: int, names: List[str]) -> None:
        """One round, beside an anchor that is opened anew: it lies elsewhere in memory then."""
        bundle = Bundle.open(probe_folder(self._folder, self._probes.anchor))
        with self._open(bundle) as session:
            anchor = Anchor(session, self._probes.seed)
            self._note("warming up until the clocks settle")
            anchor.settle()
            for place, name in enumerate(names):
                self._note("round {}, probe {} of {}".format(index + 1, place + 1, len(names)))
                self._journal.add(self._line(name, index, anchor))

    def _out_of_time(self, index: int) -> bool:
        late = time.perf_counter() - self._begun > self._limits.max_s
        return late and index + 1 >= FEWEST_ROUNDS

    def _due(self, index: int) -> List[str]:
        """Probes of a round in its order: not yet timed in it, and not known well enough."""
        names = sorted(self._probes.architectures)
        np.random.RandomState(self._probes.seed + index).shuffle(names)
        lines = self._journal.lines
        done = {line.probe for line in lines if line.round == index}
        before = [line for line in lines if line.round < index]
        if index >= FEWEST_ROUNDS:
            done |= {name for name in names if _is_tight(name, before, self._limits.tight)}
        return [name for name in names if name not in done]

    def _line(self, name: str, index: int, anchor: "Anchor") -> Line:
        before = snapshot()
        found, beside = {}, {}  # type: Dict[str, float], Dict[str, float]
        bundle = Bundle.open(probe_folder(self._folder, name))
        with self._open(bundle) as session, self._telemetry.watch() as watch:
            for length in self._probes.lengths:
                ms, anchor_ms = anchor.beside(session, length, watch)
                found.update(ms)
                beside.update(anchor_ms)
        return Line(
            probe=name,
            round=index,
            ms=found,
            beside_ms=beside,
            throttled=bool(watch.throttled),
            others_cpu_share=others_cpu_share(before, snapshot()),
            energy_mj=_energy_mj(found, watch),
            peak_rss_bytes=peak_rss_bytes(),
            idle_w=self._telemetry.idle_w,
        )


class Anchor:
    """The probe that everything is timed beside."""

    def __init__(self, session: GenerationSession, seed: int):
        self._session, self._seed = session, seed
        self._ids = _ids(session, min(ANCHOR_PROMPT, session.context_len // 2), seed)
        self._last = self.look()

    def look(self) -> Dict[str, float]:
        """Phase -> milliseconds of one of its prompts and one of its tokens, now."""
        self._last = _bursts(self._session, self._ids, BURST, self._seed, _ANCHOR_S)
        return self._last

    def settle(self) -> None:
        """Go on until two looks agree, or for ``MOST_WARM_UP_S``."""
        end = time.perf_counter() + MOST_WARM_UP_S
        while time.perf_counter() < end:
            before = self._last
            if all(abs(ms / before[phase] - 1.0) < SETTLED for phase, ms in self.look().items()):
                return

    def beside(self, session: GenerationSession, length: int, watch: Optional[Watch] = None) -> Any:
        """Time a session at a length, between two looks, and tell ``watch`` when it ran.

        Returns:
            Workload -> its milliseconds, and workload -> the anchor's of the same phase.
        """
        before = self._last
        found = time_length(session, length, self._seed, watch)
        after = self.look()
        phases = {label: Workload.of_label(label).phase for label in found}
        return found, {n: (before[p] + after[p]) / 2.0 for n, p in phases.items()}


def time_length(
    session: GenerationSession, length: int, seed: int, watch: Optional[Watch] = None
) -> Dict[str, float]:
    """A prompt and the tokens after it, as often as makes a sample of some length.

    Args:
        session: Is reset.
        length: Tokens in the cache at the middle of the burst.
        seed: Of the token ids.
        watch: Is told when each workload ran, and may ask for more of it.

    Returns:
        Workload -> milliseconds: medians of the prompts and of all tokens.
    """
    prompt = prompt_len(length)
    names = {PREFILL: Workload(PREFILL, prompt).label, DECODE: Workload(DECODE, length).label}

    def on_span(phase: str, start_s: float, end_s: float) -> None:
        if watch is not None:
            watch.add(names[phase], start_s, end_s)

    least_s = _LEAST_S if watch is None else max(_LEAST_S, watch.least_s)
    found = _bursts(session, _ids(session, prompt, seed), BURST, seed, least_s, on_span)
    return {names[phase]: ms for phase, ms in found.items()}


def _energy_mj(found_ms: Dict[str, float], watch: Watch) -> Dict[str, float]:
    """Workload -> its mean power times what one call took, where the power is known."""
    watts = {label: watch.mean_w(label) for label in found_ms}
    return {label: w * found_ms[label] for label, w in watts.items() if w is not None}


def _bursts(
    session: GenerationSession,
    ids: np.ndarray,
    n_tokens: int,
    seed: int,
    least_s: float,
    on_span: OnSpan = lambda phase, start, end: None,
) -> Dict[str, float]:
    """Phase -> median milliseconds, of prompts and the tokens after each, for some time."""
    prompts, steps = [], []  # type: List[float], List[float]
    begun = time.perf_counter()
    # rails are read 20 times a second: to be seen, small ones need more repeats than to be timed
    most = math.inf if least_s > _LEAST_S else _MOST_REPEATS
    while not prompts or (time.perf_counter() - begun < least_s and len(prompts) < most):
        session.reset()
        start = time.perf_counter()
        session.prefill(ids)
        middle = time.perf_counter()
        steps += _steps_ms(session, n_tokens, seed)
        prompts.append(1e3 * (middle - start))
        on_span(PREFILL, start, middle)
        on_span(DECODE, middle, time.perf_counter())
    return {PREFILL: float(np.median(prompts)), DECODE: float(np.median(steps))}


def _steps_ms(session: GenerationSession, n_tokens: int, seed: int) -> List[float]:
    """Milliseconds of single tokens."""
    found = []
    for token in _ids(session, n_tokens, seed).tolist():
        start = time.perf_counter()
        session.step(token)
        found.append(1e3 * (time.perf_counter() - start))
    return found


def _ids(session: GenerationSession, n: int, seed: int) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, session.backend.vocab_size, n)


def _is_tight(name: str, lines: List[Line], tight: float) -> bool:
    """Whether every workload of a probe is known well enough."""
    mine = [line for line in lines if line.probe == name]
    if len(mine) < FEWEST_ROUNDS:
        return False
    return all(
        relative_half_interval([line.ms[label] / line.beside_ms[label] for line in mine]) <= tight
        for label in mine[0].ms
    )


def relative_half_interval(samples: List[float]) -> float:
    """Half the 95 % interval of the samples' median, as a share of it; by their logarithms.

    The spread is taken from the quartiles, so that one interrupted sample does not count, and a
    median's error is 1.25 times that of a mean.
    """
    logs = sorted(math.log(sample) for sample in samples)
    spread = (percentile(logs, 75) - percentile(logs, 25)) / 1.349
    return 1.2533 * t95(len(logs) - 1) * spread / math.sqrt(len(logs))


def _setting(probes: ProbeSet, backend: Backend, threads: int) -> Setting:
    return Setting(
        target=probes.target,
        backend=backend.name,
        engine=backend.description,
        precision=probes.precision,
        threads=threads,
        context_len=probes.context_len,
        power_mode=power_mode("/"),
    )


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
