"""Time a set of probes on this machine, in rounds, beside an anchor, and never lose a round.

The one idea: machines drift. Their clocks settle, neighbours come and go, and ten minutes later the
same decoder is a fifth slower. So every probe is timed once a round, in an order that changes, and
directly before and after each of its workloads the *anchor* (``anchor``), one probe of middling
size: a token beside tokens, a prompt beside prompts, for the two drift apart. ``profile_table``
makes rows of it. On a quiet board with locked clocks that changes nothing.

Each probe of each round is one line of a journal (``profile_journal``), so that what was
interrupted goes on with the first line that is missing. A probe whose every sample is known to
``TIGHT`` is not timed again.

Not known here: what the rows are good for. Nothing is fitted, and a board needs numpy only.
"""

import math
import time
from typing import Callable, Dict, List, NamedTuple, Optional

import numpy as np

from merino_edge.errors import StoppedError
from merino_edge.formats import jsonio
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.latency_table import LatencyTable, Setting
from merino_edge.formats.measurement import percentile, t95
from merino_edge.formats.probes import ProbeSet, probe_folder
from merino_edge.runtime.anchor import Anchor
from merino_edge.runtime.backend import Backend
from merino_edge.runtime.conditions import conditions_between, others_cpu_share, snapshot
from merino_edge.runtime.device_info import device_info, power_mode
from merino_edge.runtime.memory import peak_rss_bytes
from merino_edge.runtime.profile_journal import SCHEMA, Header, Journal, Line
from merino_edge.runtime.profile_table import FEWEST_ROUNDS, table_of, with_throttling
from merino_edge.runtime.session import GenerationSession
from merino_edge.runtime.telemetry import Telemetry, Watch

TIGHT = 0.01  # half the interval of the median, as a share of it: more rounds would not show
MOST_ROUNDS = 20

Note = Callable[[str], None]
OpenSession = Callable[[Bundle], GenerationSession]


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
        return table_of(probes, journal, with_throttling(conditions, journal.lines, telemetry))
    except KeyboardInterrupt:
        raise StoppedError("stopped; what was timed is kept in '{}'.".format(journal_folder))
    finally:
        telemetry.close()


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

    def _line(self, name: str, index: int, anchor: Anchor) -> Line:
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


def _energy_mj(found_ms: Dict[str, float], watch: Watch) -> Dict[str, float]:
    """Workload -> its mean power times what one call took, where the power is known."""
    watts = {label: watch.mean_w(label) for label in found_ms}
    return {label: w * found_ms[label] for label, w in watts.items() if w is not None}


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
