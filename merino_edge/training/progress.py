"""Where a run stands, for people and programs that watch it.

The clock comes from outside and touches the figures only: no number that a run computes depends
on how fast it went.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainProgress:
    """Where a run stands.

    Attributes:
        phase: "corpus", "tokenizer", "tokens", "train", "evaluate" or "up to date".
        step, n_steps: Optimiser steps done and wanted (documents, while the phase is "tokens").
        loss: Of the last step, nats per token; None before the first.
        val_loss: Of the last validation; None before the first.
        tokens_per_s: Since this process began, validations left out.
        elapsed_s: Of training, earlier processes of the run included.
        eta_s: Seconds to go, at the pace so far.
    """

    phase: str
    step: int = 0
    n_steps: int = 0
    loss: float | None = None
    val_loss: float | None = None
    tokens_per_s: float = 0.0
    elapsed_s: float = 0.0
    eta_s: float = 0.0

    def __str__(self) -> str:
        if self.phase != "train":
            return f"{self.phase} {self.step or ''}".rstrip()
        shown = f"step {self.step}/{self.n_steps}"
        shown += f", loss {self.loss:.3f}" if self.loss is not None else ""
        shown += f", validation {self.val_loss:.3f}" if self.val_loss is not None else ""
        return shown + f", {self.tokens_per_s:.0f} tokens/s, {self.eta_s:.0f} s to go"


OnProgress = Callable[[TrainProgress], None]


class Pace:
    """Seconds and tokens of this process, for the figures."""

    def __init__(self, clock: Callable[[], float]):
        self.earlier_s = 0.0
        self._clock, self._began = clock, clock()
        self._n_steps, self._n_tokens, self._training_s = 0, 0, 0.0

    def start(self) -> None:
        """Count from now."""
        self._began = self._clock()

    @contextlib.contextmanager
    def timed(self, n_tokens: int) -> Iterator[None]:
        """Count the block as one training step over so many tokens."""
        before = self._clock()
        yield
        self._training_s += self._clock() - before
        self._n_tokens += n_tokens
        self._n_steps += 1

    @property
    def elapsed_s(self) -> float:
        """Seconds of the run, earlier processes included."""
        return self.earlier_s + self._clock() - self._began

    @property
    def tokens_per_s(self) -> float:
        """Of this process, over the time spent in steps."""
        return self._n_tokens / max(self._training_s, 1e-9)

    @property
    def seconds_per_step(self) -> float:
        """Of this process, validations and saving included."""
        return (self._clock() - self._began) / max(self._n_steps, 1)
