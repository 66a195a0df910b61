"""The loop: forward, backward, step; validate, save, and stop where it can go on.

The one idea: after step ``s`` everything that the future depends on is in three places, the
weights, the optimiser's moments and the number ``s``. The batches, the learning rate and the
moments of validation are functions of ``s``. So what a resumed run computes is bit for bit what
an uninterrupted one would have computed (same machine, same number of threads). It knows batches
and folders, not texts.
"""

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from merino_edge.core.signals import stop_wish
from merino_edge.errors import MerinoError, StoppedError
from merino_edge.formats.architecture import Architecture
from merino_edge.model.transformer import new_model
from merino_edge.training.config import TrainConfig
from merino_edge.training.data import Batches
from merino_edge.training.evaluate import Tokens, evaluate
from merino_edge.training.metrics_log import MetricsLog
from merino_edge.training.optim import (
    learning_rate_at,
    make_optimizer,
    moments_of,
    restore_moments,
    set_learning_rate,
)
from merino_edge.training.progress import OnProgress, Pace, TrainProgress
from merino_edge.training.run_folder import METRICS, Best, RunFolder, RunState, weights_name


def load_weights(model: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    """Copy arrays into a model's parameters, by name."""
    model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})


def weights_of(model: nn.Module) -> dict[str, np.ndarray]:
    """A model's parameters by name, as views."""
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


@contextlib.contextmanager
def torch_threads(n_threads: int | None) -> Iterator[None]:
    """Set the number of threads while the block runs; None leaves it."""
    earlier = torch.get_num_threads()
    torch.set_num_threads(n_threads or earlier)
    try:
        yield
    finally:
        torch.set_num_threads(earlier)


@contextlib.contextmanager
def _mixed_norms_expected() -> Iterator[None]:
    """Under autocast an RMSNorm meets bfloat16 rows and float32 weights, which torch remarks on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
        yield


class TrainingLoop:
    """One run, from where its folder stands to its last step.

    Attributes:
        model: The model, with the weights of ``step``.
        step: Optimiser steps done.
        best: The best validation so far.

    Args:
        architecture: The decoder.
        batches: The training text, by step.
        val_tokens: The held-out text.
        config: How to train.
        folder: Where states are kept; the run continues from the one it holds.
        on_progress: Told after every step.
        clock: Seconds, for the figures only.
    """

    def __init__(
        self,
        architecture: Architecture,
        batches: Batches,
        val_tokens: Tokens,
        config: TrainConfig,
        folder: RunFolder,
        on_progress: OnProgress = lambda progress: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.model = new_model(architecture, config.seed)
        self.step = 0
        self.best: Best | None = None
        self._optimizer = make_optimizer(self.model, config)
        self._batches, self._val_tokens = batches, val_tokens
        self._config, self._folder = config, folder
        self._on_progress = on_progress
        self._val_loss: float | None = None
        self._saved_step = 0
        self._pace = Pace(clock)
        self._restore(folder.state())

    def _restore(self, state: RunState | None) -> None:
        if state is None:
            return
        self.step, self.best = state.step, state.best
        self._saved_step = state.step
        self._pace.earlier_s = state.elapsed_s
        load_weights(self.model, self._folder.arrays(state.weights))
        moments = self._folder.arrays(state.moments)
        restore_moments(self.model, self._optimizer, moments, state.step)

    def run(self) -> Best:
        """Train to the last step; returns the best validation, whose weights the folder holds.

        Raises:
            StoppedError: Someone asked to stop; the state is saved.
            MerinoError: The loss is not a number; the last good state is kept.
            OSError: The disk is full; the last state is untouched.
        """
        log = MetricsLog(self._folder.file(METRICS), self.step)
        try:
            with torch_threads(self._config.threads), _mixed_norms_expected(), stop_wish() as wish:
                self._pace.start()
                while self.step < self._config.n_steps:
                    self._advance(log)
                    if wish and self.step < self._config.n_steps:
                        if self._saved_step != self.step:
                            self._commit(log)
                        self._stop(wish.name or "")
        finally:
            log.close()
        assert self.best is not None, "the last step is always validated"
        return self.best

    def _advance(self, log: MetricsLog) -> None:
        """One step, and what is due after it."""
        config = self._config
        rate = learning_rate_at(self.step, config)
        with self._pace.timed(config.tokens_per_step):
            loss, norm = self._train_step(self.step, rate)
        self.step += 1
        values: dict[str, float | None] = {
            "step": self.step,
            "loss": loss,
            "learning_rate": rate,
            "grad_norm": norm,
        }
        last = self.step == config.n_steps
        improved = False
        if last or self.step % config.eval_every == 0:
            improved = self._validate()
            values["val_loss"] = self._val_loss
        log.add(**values, elapsed_s=round(self._pace.elapsed_s, 3))
        if improved or last or self.step % config.save_every == 0:
            self._commit(log)
        self._report(loss)

    def _train_step(self, step: int, rate: float) -> tuple[float, float]:
        """(loss, gradient norm); the weights are not touched if either is not finite."""
        loss = self._loss(torch.from_numpy(self._batches.at(step)))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self._config.grad_clip)
        values = float(loss.detach()), float(norm)
        if not all(map(math.isfinite, values)):
            self._refuse_step(step + 1, *values)
        set_learning_rate(self._optimizer, rate)
        self._optimizer.step()
        return values

    def _loss(self, batch: Tensor) -> Tensor:
        """Mean cross-entropy of a batch [B, T + 1], nats per token."""
        half = self._config.precision == "bfloat16"
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            logits = self.model(batch[:, :-1])
        return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())

    def _validate(self) -> bool:
        """True if this is the best validation so far."""
        config = self._config
        found = evaluate(self.model, self._val_tokens, config.seq_len, config.eval_tokens)
        self._val_loss = found.loss
        if self.best is not None and found.loss >= self.best.val_loss:
            return False
        self.best = Best(self.step, found.loss, weights_name(self.step))
        return True

    def _commit(self, log: MetricsLog) -> None:
        log.flush()
        moments = moments_of(self.model, self._optimizer)
        elapsed_s = self._pace.elapsed_s
        self._folder.commit(self.step, elapsed_s, self.best, weights_of(self.model), moments)
        self._saved_step = self.step

    def _report(self, loss: float) -> None:
        n_left = self._config.n_steps - self.step
        self._on_progress(
            TrainProgress(
                "train",
                self.step,
                self._config.n_steps,
                loss,
                self._val_loss,
                self._pace.tokens_per_s,
                self._pace.elapsed_s,
                n_left * self._pace.seconds_per_step,
            )
        )

    def _refuse_step(self, step: int, loss: float, norm: float) -> None:
        state = self._folder.state()
        kept = f"the state of step {state.step} is kept" if state else "nothing was saved yet"
        raise MerinoError(
            f"step {step} gave loss {loss} and gradient norm {norm}.",
            note=f"{kept} in '{self._folder.path}'.",
            hint=f"start again with a lower --learning-rate (it is {self._config.learning_rate}).",
        )

    def _stop(self, signal_name: str) -> None:
        raise StoppedError(
            f"stopped by {signal_name} after step {self.step} of {self._config.n_steps}.",
            note=f"the state is saved in '{self._folder.path}'.",
            hint="the same command with --resume continues it.",
        )
