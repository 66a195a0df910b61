"""One optimiser step: forward and backward over this process's windows, then AdamW.

The one idea: a step's windows are fixed by its number; processes share them, and each goes over
its share ``batch_size`` windows at a time, adding gradients. Losses are means over equal shares,
so their mean is the step's loss, and neither the number of processes nor of passes changes more
than the order of additions. The weights move only if loss and gradient are finite everywhere.
"""

import contextlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from merino_edge.errors import SpecError
from merino_edge.training.arrays import load_weights, weights_of, whole_of
from merino_edge.training.config import TrainConfig
from merino_edge.training.losses import distillation_loss, next_token_loss
from merino_edge.training.machine import Machine, compile_errors_named
from merino_edge.training.optim import (
    make_optimizer,
    moments_of,
    restore_moments,
    set_learning_rate,
)
from merino_edge.training.run_folder import Scaling
from merino_edge.training.spread import spread_model
from merino_edge.training.world import World

Arrays = dict[str, np.ndarray]


class StepResult(NamedTuple):
    """What a step found, the same in every process.

    Attributes:
        loss: Before the step, nats per token; with a teacher, the mixture that is minimised.
        grad_norm: Of all gradients, before clipping.
        skipped: The gradients overflowed float16; the loss is scaled less from now on.
        refused: Loss or gradients are no numbers; nothing was changed.
    """

    loss: float
    grad_norm: float
    skipped: bool = False
    refused: bool = False


class Stepper:
    """A model, its optimiser, and how it is spread over processes.

    Attributes:
        model: The bare model; its forward may be called for validation.

    Args:
        model: With its first weights, the same in every process.
        config: How to train.
        machine: Where, and in which precision.
        world: With whom.
        teacher: Ids [B, T] -> logits [B, T, V] to learn from, or None.

    Raises:
        SpecError: The windows of a step cannot be shared equally.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        machine: Machine,
        world: World,
        teacher: Callable[[Tensor], Tensor] | None = None,
    ):
        if config.windows_per_step % world.size:
            raise SpecError(
                f"{config.windows_per_step} windows a step cannot be shared by"
                f" {world.size} processes.",
                hint="choose --batch-size (times --accumulate) as a multiple of their number.",
            )
        self.model = model.to(machine.device)
        self._config, self._machine, self._world = config, machine, world
        self._teacher = teacher
        self._forward = spread_model(self.model, config, machine, world)
        self._optimizer = make_optimizer(self.model, config)
        self._n_skipped = 0

    def run(self, windows: np.ndarray, rate: float) -> StepResult:
        """Do the step, unless its result is not finite: then nothing is changed.

        Args:
            windows: [windows_per_step, T + 1] ids, the same in every process.
            rate: Learning rate.
        """
        scaler = self._machine.scaler
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._world.mean(self._backward(self._my_rows(windows)))
        scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self._config.grad_clip)
        values = loss, float(whole_of(norm))
        finite = all(map(math.isfinite, values))
        # At a scale of 1 it is not the scaling that makes the gradients overflow.
        skipped = not finite and math.isfinite(loss) and scaler.get_scale() > 1.0
        if finite or skipped:
            set_learning_rate(self._optimizer, rate)
            scaler.step(self._optimizer)
            scaler.update()
        self._n_skipped += skipped
        return StepResult(*values, skipped=skipped, refused=not (finite or skipped))

    def _my_rows(self, windows: np.ndarray) -> Tensor:
        share = len(windows) // self._world.size
        rank = self._world.rank
        mine = torch.from_numpy(windows[rank * share : (rank + 1) * share])
        return mine.to(self._machine.device)

    def _backward(self, rows: Tensor) -> float:
        """Mean loss of this process's rows; their mean gradient is in the parameters."""
        passes = rows.split(self._config.batch_size)
        total = torch.zeros((), device=rows.device)
        for number, part in enumerate(passes, 1):
            with self._exchange(last=number == len(passes)), compile_errors_named():
                loss = self._loss(part) * (len(part) / len(rows))
                self._machine.scaler.scale(loss).backward()
            total += loss.detach()
        return float(total)

    def _exchange(self, last: bool) -> AbstractContextManager[None]:
        """Processes exchange gradients in the last pass of a step only."""
        forward: Any = self._forward  # of torch's two classes, one has each of these methods
        if hasattr(forward, "set_requires_gradient_sync"):  # FSDP
            forward.set_requires_gradient_sync(last)
        if last or not hasattr(forward, "no_sync"):
            return contextlib.nullcontext()
        quiet: AbstractContextManager[None] = forward.no_sync()
        return quiet

    def _loss(self, rows: Tensor) -> Tensor:
        """Mean loss of rows [B, T + 1], nats per token."""
        ids, targets = rows[:, :-1], rows[:, 1:].flatten()
        weight = self._config.distill_weight if self._teacher else 0.0
        with self._machine.autocast():
            logits = self._forward(ids).flatten(0, 1)
        if self._teacher is None or not weight:
            return next_token_loss(logits, targets)
        with torch.no_grad(), self._machine.autocast():
            told = self._teacher(ids).flatten(0, 1)
        soft = distillation_loss(logits, told, self._config.distill_temperature)
        return weight * soft + (1 - weight) * next_token_loss(logits, targets)

    def weights(self) -> Arrays:
        """The model's weights; all processes must ask together."""
        return weights_of(self.model)

    def moments(self) -> Arrays:
        """The optimiser's moving averages; all processes must ask together."""
        return moments_of(self.model, self._optimizer)

    def scaling(self) -> Scaling | None:
        """Where the scaling of the loss stands; None without one."""
        scaler = self._machine.scaler
        if not scaler.is_enabled():
            return None
        state = scaler.state_dict()
        return Scaling(state["scale"], state["_growth_tracker"], self._n_skipped)

    def restore(self, step: int, weights: Arrays, moments: Arrays, scaling: Scaling | None) -> None:
        """Stand where another stepper stood after so many steps."""
        load_weights(self.model, weights)
        if scaling is not None:
            scaler, self._n_skipped = self._machine.scaler, scaling.n_skipped
            known = {"scale": scaling.scale, "_growth_tracker": scaling.growth_tracker}
            scaler.load_state_dict({**scaler.state_dict(), **known})
        restore_moments(self.model, self._optimizer, moments, step - self._n_skipped)
