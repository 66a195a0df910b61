"""The loop: forward, backward, step; validate, save, and stop where it can go on.

The one idea: after step ``s`` everything that the future depends on is in three places, the
weights, the optimiser's moments and the number ``s``. The batches, the learning rate and the
moments of validation are functions of ``s``. So what a resumed run computes is bit for bit what
an uninterrupted one would have computed (same machine, same number of threads and processes).

Every process of a run is in this loop at the same place. Process 0 writes; what the others need
to know of it (that a state is saved, that someone asked to stop) they learn from the world. It
knows batches and folders, not texts.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence

from merino_edge.core.signals import StopWish, stop_wish
from merino_edge.errors import MerinoError, StoppedError
from merino_edge.training.config import TrainConfig
from merino_edge.training.data import Batches
from merino_edge.training.evaluate import Tokens, evaluate
from merino_edge.training.machine import expected_remarks, torch_threads
from merino_edge.training.metrics_log import Log, MetricsLog
from merino_edge.training.optim import learning_rate_at
from merino_edge.training.progress import OnProgress, Pace, TrainProgress
from merino_edge.training.run_folder import METRICS, Best, RunFolder, RunState, weights_name
from merino_edge.training.step import Stepper, StepResult
from merino_edge.training.world import World

OpenLog = Callable[[int], Log]  # from the last step of the run so far


class TrainingLoop:
    """One run, from where its folder stands to its last step.

    Attributes:
        step: Optimiser steps done.
        best: The best validation so far.

    Args:
        stepper: The model and its optimiser.
        batches: The training text, by step.
        val_tokens: The held-out text.
        config: How to train.
        folder: Where states are kept; the run continues from the one it holds.
        world: The processes of the run.
        on_progress: Told after every step, in process 0.
        logs: More places for the figures of each step.
        clock: Seconds, for the figures only.
    """

    def __init__(
        self,
        stepper: Stepper,
        batches: Batches,
        val_tokens: Tokens,
        config: TrainConfig,
        folder: RunFolder,
        world: World,
        on_progress: OnProgress = lambda progress: None,
        logs: Sequence[OpenLog] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        self.step = 0
        self.best: Best | None = None
        self._stepper, self._world = stepper, world
        self._batches, self._val_tokens = batches, val_tokens
        self._config, self._folder = config, folder
        self._on_progress = on_progress
        self._open_logs: list[OpenLog] = [self._open_metrics, *logs]
        self._val_loss: float | None = None
        self._saved_step = 0
        self._pace = Pace(clock)
        self._restore(folder.state())

    def _open_metrics(self, last_step: int) -> Log:
        return MetricsLog(self._folder.file(METRICS), last_step)

    def _restore(self, state: RunState | None) -> None:
        if state is None:
            return
        self.step, self.best = state.step, state.best
        self._saved_step = state.step
        self._pace.earlier_s = state.elapsed_s
        weights, moments = map(self._folder.arrays, (state.weights, state.moments))
        self._stepper.restore(state.step, weights, moments, state.scaling)

    def run(self) -> Best:
        """Train to the last step; returns the best validation, whose weights the folder holds.

        Raises:
            StoppedError: Someone asked to stop; the state is saved.
            MerinoError: The loss is not a number; the last good state is kept.
            OSError: The disk is full; the last state is untouched.
        """
        threads = torch_threads(self._config.threads)
        with threads, expected_remarks(), self._logs() as logs, stop_wish() as wish:
            self._pace.start()
            while self.step < self._config.n_steps:
                self._advance(logs)
                wanted = self._signal(wish)
                if wanted and self.step < self._config.n_steps:
                    if self._saved_step != self.step:
                        self._commit(logs)
                    self._stop(signal.Signals(wanted).name)
        assert self.best is not None, "the last step is always validated"
        return self.best

    @contextlib.contextmanager
    def _logs(self) -> Iterator[list[Log]]:
        """The open logs of process 0; the others have none."""
        with contextlib.ExitStack() as stack:
            opened = self._open_logs if self._world.is_first else []
            yield [stack.enter_context(contextlib.closing(make(self.step))) for make in opened]

    def _signal(self, wish: StopWish) -> int:
        """The number of the signal that any process got, or 0; the same in all."""
        return self._world.highest(signal.Signals[wish.name] if wish.name else 0)

    def _advance(self, logs: list[Log]) -> None:
        """One step, and what is due after it."""
        config = self._config
        rate = learning_rate_at(self.step, config)
        with self._pace.timed(config.tokens_per_step):
            result = self._stepper.run(self._batches.at(self.step), rate)
        if result.refused:
            self._world.first(lambda: self._refuse_step(self.step + 1, result), lambda: None)
        self.step += 1
        values: dict[str, float | None] = {
            "step": self.step,
            "loss": result.loss,
            "learning_rate": rate,
            "grad_norm": None if result.skipped else result.grad_norm,
        }
        last = self.step == config.n_steps
        improved = False
        if last or self.step % config.eval_every == 0:
            improved = self._validate()
            values["val_loss"] = self._val_loss
        for log in logs:
            log.add(**values, elapsed_s=round(self._pace.elapsed_s, 3))
        if improved or last or self.step % config.save_every == 0:
            self._commit(logs)
        self._report(result.loss)

    def _validate(self) -> bool:
        """True if this is the best validation so far."""
        config = self._config
        # A model in parts needs all processes for every window, so they go through them together.
        world = World() if config.shard else self._world
        model = self._stepper.model
        found = evaluate(model, self._val_tokens, config.seq_len, config.eval_tokens, world)
        loss = self._val_loss = self._world.mean(found.loss)
        if self.best is not None and loss >= self.best.val_loss:
            return False
        self.best = Best(self.step, loss, weights_name(self.step))
        return True

    def _commit(self, logs: list[Log]) -> None:
        """Gather the state from all processes and save it in the first."""
        weights, moments = self._stepper.weights(), self._stepper.moments()
        scaling = self._stepper.scaling()

        def save() -> None:
            for log in logs:
                log.flush()
            elapsed_s = self._pace.elapsed_s
            self._folder.commit(self.step, elapsed_s, self.best, weights, moments, scaling)

        self._world.first(save, lambda: None)
        self._saved_step = self.step

    def _report(self, loss: float) -> None:
        if not self._world.is_first:
            return
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

    def _refuse_step(self, step: int, result: StepResult) -> None:
        state = self._folder.state()
        kept = f"the state of step {state.step} is kept" if state else "nothing was saved yet"
        raise MerinoError(
            f"step {step} gave loss {result.loss} and gradient norm {result.grad_norm}.",
            note=f"{kept} in '{self._folder.path}'.",
            hint=f"start again with a lower --learning-rate (it is {self._config.learning_rate}).",
        )

    def _stop(self, signal_name: str) -> None:
        raise StoppedError(
            f"stopped by {signal_name} after step {self.step} of {self._config.n_steps}.",
            note=f"the state is saved in '{self._folder.path}'.",
            hint="the same command with --resume continues it.",
        )
