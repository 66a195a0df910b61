"""A finalist that was measured: what was foretold, what it took, and whether it holds.

A record for whoever shows it; what makes one is ``measured_search``, which builds decoders, and so
brings torch. This needs none.
"""

from dataclasses import dataclass
from typing import Any

from merino_edge.formats.latency_table import MEASURED
from merino_edge.runtime.beside import Timed
from merino_edge.search.result import SearchResult


@dataclass(frozen=True)
class Confirmed:
    """One finalist that was measured.

    Attributes:
        result: What the search said of it.
        limit_ms: Of a token.
        predicted_ms, predicted_high_ms: Foretold, and the upper end of the interval.
        measured: What it took.
        provenance: Of the table, and so of ``measured``: a mock measures nothing.
    """

    result: SearchResult
    limit_ms: float
    predicted_ms: float
    predicted_high_ms: float
    measured: Timed
    provenance: str = MEASURED

    @property
    def passed(self) -> bool:
        """The upper end of what was measured keeps the limit."""
        return self.measured.high_ms <= self.limit_ms

    @property
    def unused(self) -> float:
        """Share of the limit that it leaves."""
        return 1.0 - self.measured.ms / self.limit_ms

    def record(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "architecture": self.result.best.architecture.arch_id,
            "limit_ms": self.limit_ms,
            "predicted_ms": self.predicted_ms,
            "predicted_high_ms": self.predicted_high_ms,
            "provenance": self.provenance,
            "measured": self.measured._asdict(),
            "passed": self.passed,
        }

    @property
    def sentence(self) -> str:
        """For people."""
        half = self.predicted_high_ms - self.predicted_ms
        return (
            f"budget {self.limit_ms:.3f} ms · predicted {self.predicted_ms:.3f} ± {half:.3f} · "
            f"{MEASURED if self.provenance == MEASURED else 'a mock says'} "
            f"{self.measured.ms:.3f} ± {self.measured.half_ms:.3f} · "
            f"{'PASS' if self.passed else 'FAIL'}"
        )
