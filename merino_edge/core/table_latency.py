"""The latency model of a table: prices for kinds of work, added up for any decoder.

The one idea: a price belongs to a kind of work (``latency_work``), a part does so much of each, and
a call is its parts; so what a fit knows about a few dozen decoders it says about all of them. One
fit is for one phase; a table has one or both, and a factor that measured finalists brought.

Where prices come from is the affair of ``latency_fit``. Far outside the sizes that were timed
(``LatencyFit.reach``) a sum of prices is a guess, and ``beyond_reach`` says so.
"""

from dataclasses import dataclass, replace

import numpy as np

from merino_edge.core.latency import Part
from merino_edge.core.latency_work import Stored, call_parts, part_work, read_mb
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.latency_table import DECODE, Workload

FAR = 1.25  # beyond the least and the most that was fitted


@dataclass(frozen=True)
class LatencyFit:
    """Prices of the kinds of work of one phase, and how wrong they are.

    Attributes:
        phase: "decode" or "prefill".
        prices_ms: Milliseconds per unit, in the order of ``WORK``.
        cached_weights: Blocks of at most so many weights stay in a cache between applications.
        capacity_mb: Of weights and past that a call reads, so much comes from a cache.
        spill_ms_per_mb: What the rest costs on top.
        stored: Bytes of what a call reads, to count megabytes with.
        spread: The stated interval is [ms / spread, ms x spread].
        level: Share of decoders that it promises to hold.
        fold_mape: Mean absolute relative error where the folds foretold each other.
        reach: Least and most milliseconds that were fitted.
        n_rows: Rows that were fitted.
    """

    phase: str
    prices_ms: tuple[float, ...]
    cached_weights: int
    capacity_mb: float
    spill_ms_per_mb: float
    stored: Stored
    spread: float
    level: float
    fold_mape: float
    reach: tuple[float, float]
    n_rows: int

    def part_ms(self, part: Part) -> float:
        """Milliseconds of one part, without what spills."""
        return float(part_work(part, self.cached_weights) @ np.array(self.prices_ms))

    def spill_ms(self, part: Part) -> float:
        """What one part adds where the call does not fit the cache; the head holds the capacity."""
        room_mb = self.capacity_mb if part.op == "head" else 0.0
        return self.spill_ms_per_mb * (read_mb(part, self.stored) - room_mb)

    def ms(self, a: Architecture, length: int) -> float:
        """Milliseconds of a whole call.

        Args:
            a: The decoder.
            length: As in ``Workload``.
        """
        parts = call_parts(a, Workload(self.phase, length))
        spill_ms = sum(times * self.spill_ms(part) for times, part in parts)
        return sum(times * self.part_ms(part) for times, part in parts) + max(0.0, spill_ms)


@dataclass(frozen=True)
class TableLatency:
    """The latency model of a table; see ``core.latency.LatencyModel``.

    Attributes:
        decode, prefill: The fits; None for a phase that the table does not hold.
        factor: Everything takes so many times what was fitted: what measured finalists showed.
        certainty: Instead of the fits' spreads, once finalists were measured.
    """

    decode: LatencyFit | None
    prefill: LatencyFit | None
    factor: float = 1.0
    certainty: float | None = None
    basis: str = "table"

    @property
    def knows_decode(self) -> bool:
        """It has times for one token."""
        return self.decode is not None

    @property
    def knows_prefill(self) -> bool:
        """It has times for a prompt."""
        return self.prefill is not None

    @property
    def spills(self) -> bool:
        """A fit has a price for what does not fit a cache."""
        fits = (self.decode, self.prefill)
        return any(fit is not None and fit.spill_ms_per_mb > 0.0 for fit in fits)

    @property
    def decode_spread(self) -> float:
        """The upper end of the interval of a token, over its time."""
        return self._spread(self.decode)

    @property
    def prefill_spread(self) -> float:
        """The upper end of the interval of a prompt, over its time."""
        return self._spread(self.prefill)

    def part_ms(self, part: Part) -> float:
        """Milliseconds of a part: of a token if one goes in, of a prompt otherwise."""
        return self.factor * self._fit(part.q_len == 1).part_ms(part)

    def spill_ms(self, part: Part) -> float:
        """What a part adds where the whole does not fit."""
        return self.factor * self._fit(part.q_len == 1).spill_ms(part)

    def beyond_reach(self, decode_ms: float) -> str | None:
        """A sentence where a token takes much more or less than any that was fitted."""
        assert self.decode is not None
        least, most = self.decode.reach
        if least / FAR <= decode_ms <= most * FAR:
            return None
        return (
            f"{decode_ms:.3f} ms a token lie outside what the table was fitted to, {least:.3f} to "
            f"{most:.3f} ms: the stated interval says nothing there."
        )

    def ms(self, a: Architecture, workload: Workload) -> float:
        """Milliseconds of a whole call."""
        return self.factor * self._fit(workload.phase == DECODE).ms(a, workload.length)

    def corrected(self, factor: float, certainty: float) -> "TableLatency":
        """The same, after finalists were measured."""
        return replace(self, factor=factor, certainty=certainty)

    def _fit(self, of_a_token: bool) -> LatencyFit:
        fit = self.decode if of_a_token else self.prefill
        assert fit is not None  # asked only for what it knows
        return fit

    def _spread(self, fit: LatencyFit | None) -> float:
        if self.certainty is not None:
            return self.certainty
        return fit.spread if fit else 1.0
