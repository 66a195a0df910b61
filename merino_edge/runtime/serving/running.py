"""A request that has a session: its next step, whatever that is.

The one idea: work comes in small equal portions, so that several requests can take turns: a portion
is a part of the prompt, or one token. ``step`` does one and says what it gave. The numbers are
those that a session's own ``generate`` gives: the prompt is cut elsewhere, nothing else differs.
"""

from typing import List, Optional

from merino_edge.runtime.generation import Generation
from merino_edge.runtime.serving.job import Clock, Piece, Ticket, Usage
from merino_edge.runtime.serving.power import Mark, PowerMeter
from merino_edge.runtime.session import GenerationSession
from merino_edge.runtime.text_stream import TextStream


class Running:
    """One text on one session; the session is its own until it ends.

    Args:
        ticket: Whose prompt fits.
        session: A free one; what it held is forgotten.
        chunk: Tokens of the prompt in one portion.
        clock: Seconds.
        meter: Of power; None where there is none.

    Attributes:
        first_s: When the first token came; None before.
        last_s: When the last one came.
    """

    def __init__(
        self,
        ticket: Ticket,
        session: GenerationSession,
        chunk: int,
        clock: Clock,
        meter: Optional[PowerMeter] = None,
    ):
        self.ticket, self.session = ticket, session
        self.first_s: Optional[float] = None
        self.last_s: Optional[float] = None
        self._clock, self._begun_s, self._busy_s = clock, clock(), 0.0
        self._meter = meter
        self._mark: Optional[Mark] = meter.mark() if meter else None
        session.reset()
        ids = ticket.ids
        self._parts = [ids[start : start + chunk] for start in range(0, len(ids), chunk)]
        self._text: Optional[TextStream] = None
        self._generation = self._new_generation()

    @property
    def n_generated(self) -> int:
        """Tokens given out so far."""
        return len(self._generation.output_ids)

    def step(self) -> Optional[Piece]:
        """One portion of work.

        Returns:
            What it gave: nothing known yet for a part of the prompt (a Piece without tokens), a
            token, or None at the end, when ``reason`` says why.

        Raises:
            MerinoError: As the session.
        """
        start_s = self._clock()
        try:
            return self._step()
        finally:
            self._busy_s += self._clock() - start_s

    def rest(self) -> str:
        """Text that was held back until the end."""
        return self._text.finish() if self._text is not None else ""

    @property
    def reason(self) -> str:
        """How it ended by itself: "stop" or "length"."""
        return self._generation.finish_reason or "cancelled"

    def usage(self) -> Usage:
        """So far."""
        asked_s, first_s, last_s = self.ticket.asked_s, self.first_s, self.last_s
        decode_s = None if first_s is None or last_s is None else last_s - first_s
        return Usage(
            n_prompt=len(self.ticket.ids),
            n_generated=self.n_generated,
            queue_ms=1e3 * (self._begun_s - asked_s),
            ttft_ms=None if first_s is None else 1e3 * (first_s - asked_s),
            decode_ms=1e3 * decode_s if decode_s and self.n_generated > 1 else None,
            busy_ms=1e3 * self._busy_s,
            energy_j=self._energy_j(),
        )

    def _step(self) -> Optional[Piece]:
        if len(self._parts) > 1:
            self.session.prefill(self._parts.pop(0))
            return Piece("", [])
        token_id = next(self._generation, None)
        if token_id is None:
            return None
        self.last_s = self._clock()
        self.first_s = self.first_s or self.last_s
        return Piece(self._generation.piece, [token_id])

    def _new_generation(self) -> Generation:
        session, config = self.session, self.ticket.request.config
        if config.eos_token_ids is None:
            ends = tuple(session.manifest.generation.eos_token_ids)
            config = config._replace(eos_token_ids=ends)
        if session.tokenizer is not None:
            self._text = TextStream(session.tokenizer.decode, config.stop)
        parts: List[List[int]] = self._parts
        return Generation(
            session.backend,
            self.ticket.ids,
            config,
            lambda: session.prefill(parts[0]),
            self._text,
            None,
        )

    def _energy_j(self) -> Optional[float]:
        if self._meter is None or self._mark is None:
            return None
        mean_w = self._meter.mean_w_since(self._mark)
        return None if mean_w is None else mean_w * self._busy_s
