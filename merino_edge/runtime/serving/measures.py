"""What a server counts of itself and reads off its board, for ``/metrics``.

The one idea: counted where it happens (an ``Observer`` of the scheduler), looked up when somebody
asks (memory, temperature, power). A figure that this machine does not have is left out: zero watts
would be a lie. The energy of an answer is told in ``job.Usage``; here its sums.
"""

import os
import time
from typing import List, Optional

from merino_edge.runtime.device_info import hottest_c, read_text
from merino_edge.runtime.serving.job import End, Piece, Ticket
from merino_edge.runtime.serving.metrics import Metrics, gauge_lines
from merino_edge.runtime.serving.power import PowerMeter
from merino_edge.runtime.serving.running import Running
from merino_edge.runtime.serving.scheduler import Observer, Scheduler
from merino_edge.runtime.throttling import throttled

TTFT_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ITL_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
REASONS = ("stop", "length", "cancelled", "deadline", "stopping", "error")
_PREFIX = "merino_edge_"
_COUNTERS = (
    ("prompt_tokens_total", "Tokens of prompts whose answers ended."),
    ("generated_tokens_total", "Tokens given out."),
    ("generation_energy_joules_total", "Energy of the answers for which it was measured."),
    ("generation_energy_tokens_total", "Generated tokens of those answers."),
)


class Measures(Observer):
    """Counts for one server.

    Args:
        meter: Of power; None where there is none.
        root: Where the machine's files begin.
    """

    def __init__(self, meter: Optional[PowerMeter] = None, root: str = "/"):
        self.metrics, self._meter, self._root = Metrics(), meter, root
        self._begun_s = time.time()
        for name, text in _COUNTERS[: 4 if meter else 2]:
            self.metrics.counter(_PREFIX + name, text)
        for reason in REASONS:
            self.metrics.counter(_PREFIX + "generations_total", "Ended, by why.", reason=reason)
        self.metrics.counter(_PREFIX + "http_requests_total", "Answered, by path and status.")
        self.metrics.histogram(
            _PREFIX + "time_to_first_token_seconds", "From asking, waiting included.", TTFT_S
        )
        self.metrics.histogram(
            _PREFIX + "inter_token_seconds", "From a token to the next of the same answer.", ITL_S
        )

    def given(self, running: Running, piece: Piece, since_s: float) -> None:
        """Count a token."""
        self.metrics.add(_PREFIX + "generated_tokens_total")
        is_first = running.n_generated == 1
        name = "time_to_first_token_seconds" if is_first else "inter_token_seconds"
        self.metrics.observe(_PREFIX + name, since_s)

    def ended(self, ticket: Ticket, end: End) -> None:
        """Count an answer."""
        self.metrics.add(_PREFIX + "generations_total", reason=end.reason)
        self.metrics.add(_PREFIX + "prompt_tokens_total", end.usage.n_prompt)
        if end.usage.energy_j is not None:
            self.metrics.add(_PREFIX + "generation_energy_joules_total", end.usage.energy_j)
            self.metrics.add(_PREFIX + "generation_energy_tokens_total", end.usage.n_generated)

    def answered(self, path: str, status: int) -> None:
        """Count a request of HTTP."""
        name = _PREFIX + "http_requests_total"
        self.metrics.add(name, path=path, status=str(status))

    @property
    def watts(self) -> Optional[float]:
        """The board's power now; None where it is not measured."""
        return None if self._meter is None else self._meter.watts

    def text(self, scheduler: Scheduler, extra: Optional[List[str]] = None) -> str:
        """All figures as Prometheus reads them."""
        lines = self.metrics.lines() + _of_scheduler(scheduler) + (extra or [])
        lines += self._of_energy() + self._of_machine() + self._of_process()
        return "\n".join(lines) + "\n"

    def _of_energy(self) -> List[str]:
        if self._meter is None:
            return []
        joules = self.metrics.value(_PREFIX + "generation_energy_joules_total")
        n_tokens = self.metrics.value(_PREFIX + "generation_energy_tokens_total")
        each_j = joules / n_tokens if n_tokens else None
        board_j = self._meter.mark().joules
        return (
            gauge_lines(_PREFIX + "power_watts", "Of the whole board, now.", self._meter.watts)
            + gauge_lines(
                _PREFIX + "board_energy_joules_total",
                "Of the whole board since the server began.",
                board_j,
                kind="counter",
            )
            + gauge_lines(
                _PREFIX + "energy_per_token_joules", "Of a generated token, on average.", each_j
            )
        )

    def _of_machine(self) -> List[str]:
        held = throttled(self._root)
        return gauge_lines(
            _PREFIX + "temperature_celsius", "The hottest of CPU and GPU.", hottest_c(self._root)
        ) + gauge_lines(
            _PREFIX + "throttled",
            "Whether clocks are held back now.",
            None if held is None else float(held),
        )

    def _of_process(self) -> List[str]:
        own = os.times()
        cpu_s = own.user + own.system
        return (
            gauge_lines(
                "process_resident_memory_bytes", "Resident memory in bytes.", resident_bytes()
            )
            + gauge_lines("process_open_fds", "Number of open file descriptors.", n_open_files())
            + gauge_lines(
                "process_start_time_seconds", "Start, since the epoch in seconds.", self._begun_s
            )
            + gauge_lines(
                "process_cpu_seconds_total", "CPU time in seconds.", cpu_s, kind="counter"
            )
        )


def _of_scheduler(scheduler: Scheduler) -> List[str]:
    manifest, backend = scheduler.sessions[0].manifest, scheduler.sessions[0].backend
    about = {"bundle": manifest.name, "backend": backend.name, "precision": manifest.precision}
    kv_bytes = sum(session.backend.kv_cache_bytes for session in scheduler.sessions)
    return (
        gauge_lines(_PREFIX + "info", "What is served.", 1.0, about)
        + gauge_lines(_PREFIX + "sessions", "Texts at a time.", len(scheduler.sessions))
        + gauge_lines(_PREFIX + "kv_cache_bytes", "Taken by all sessions, once.", kv_bytes)
        + gauge_lines(_PREFIX + "requests_running", "With a session.", scheduler.n_running)
        + gauge_lines(_PREFIX + "requests_waiting", "Without one.", scheduler.n_waiting)
    )


def resident_bytes() -> Optional[int]:
    """Memory of this process that is in RAM; None where /proc does not tell."""
    fields = (read_text("/", "/proc/self/statm") or "").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else None


def n_open_files() -> Optional[int]:
    """Open file descriptors of this process; None where /proc does not tell."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # without the one that lists them
    except OSError:
        return None
