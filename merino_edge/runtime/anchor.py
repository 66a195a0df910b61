"""Time a session beside the anchor: what a prompt and a token take, here and now.

The one idea: directly before and after a workload the anchor, one decoder of middling size, is
timed as well, so that what was found can be stated as a ratio, which holds while a machine drifts.
Every sample is a burst: a prompt and the tokens after it, repeated until it is long enough to trust
the clock, and longer where power is read too.

Not known here: probes, rounds, tables.
"""

import math
import time
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from merino_edge.formats.latency_table import DECODE, PREFILL, Workload
from merino_edge.formats.probes import BURST, prompt_len
from merino_edge.runtime.session import GenerationSession
from merino_edge.runtime.telemetry import Watch

SETTLED = 0.02  # two looks at the anchor that differ by less: clocks have settled
MOST_WARM_UP_S = 10.0
ANCHOR_PROMPT = 64  # tokens
_LEAST_S = 0.025  # of a sample: shorter ones are repeated
_MOST_REPEATS = 20
_ANCHOR_S = 0.02

OnSpan = Callable[[str, float, float], None]  # phase, from and to, in perf_counter seconds


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
