"""The processes that share a run: one, or as many as torchrun started.

The one idea: a world of one and a world of many have the same few verbs, so the loop is written
once. Process 0 alone reads texts and writes files; what it finds, an error included, it tells the
others. Each step ends in one sum over all processes (loss, and whether anyone was asked to stop),
so all see the same numbers and take the same turn. It knows nothing of models.

A process that dies takes its connections with it: the others' next exchange fails, which becomes
an error with a sentence here, and torchrun ends them. What was committed before stays.
"""

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from merino_edge.errors import MerinoError

Result = TypeVar("Result")
# The others wait while process 0 tokenises; a dead process is noticed by its connection, not this.
PATIENCE = datetime.timedelta(days=7)


class ToldError(MerinoError):
    """Another process met an error and has reported it; this one only ends, with the same code."""


class World:
    """A world of one process.

    Attributes:
        rank: Which process this is; 0 is the first.
        size: How many there are.
    """

    rank = 0
    size = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def mean(self, value: float) -> float:
        """Mean over all processes, the same in each, to the bit."""
        return float(self.sum(torch.tensor([value], dtype=torch.float64))) / self.size

    def sum(self, values: Tensor) -> Tensor:
        """Sums over all processes, the same in each, to the bit."""
        return values

    def highest(self, value: int) -> int:
        """The highest of all processes' values."""
        return value

    def agree(self, decide: Callable[[], bool]) -> bool:
        """What ``decide`` says in process 0, in all."""
        decided = self.first(decide, lambda: False)
        return bool(self.highest(int(decided)))

    def first(self, make: Callable[[], Result], others: Callable[[], Result]) -> Result:
        """Run ``make`` in process 0; when it is done, ``others`` in the rest.

        Raises:
            MerinoError: What ``make`` raised, in process 0.
            ToldError: In the others, if it raised there.
        """
        return make()


class _TorchWorld(World):
    """The processes of an initialised torch.distributed."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._device = device

    def sum(self, values: Tensor) -> Tensor:
        total = values.to(self._device)
        dist.all_reduce(total)
        return total.cpu()

    def highest(self, value: int) -> int:
        found = torch.tensor([value], device=self._device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def first(self, make: Callable[[], Result], others: Callable[[], Result]) -> Result:
        if not self.is_first:
            code = int(self.sum(torch.zeros(1, dtype=torch.int64)))
            if code:
                error = ToldError("process 0 met an error.")
                error.exit_code = code
                raise error
            return others()
        try:
            found = make()
        except BaseException as error:
            self.sum(torch.tensor([getattr(error, "exit_code", 1)]))
            raise
        self.sum(torch.zeros(1, dtype=torch.int64))
        return found


def was_launched() -> bool:
    """Whether torchrun started this process, with others or alone."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextlib.contextmanager
def world_of(device: torch.device) -> Iterator[World]:
    """The world that torchrun's variables describe; of one process without them.

    Raises:
        MerinoError: The processes did not find each other, or one was lost on the way.
    """
    if not was_launched() or os.environ["WORLD_SIZE"] == "1":
        yield World()
        return
    with lost_process_named():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        try:
            yield _TorchWorld(device)
        finally:
            dist.destroy_process_group()


@contextlib.contextmanager
def lost_process_named() -> Iterator[None]:
    """What torch.distributed says when a process is gone, as one of our errors.

    Raises:
        MerinoError: With torch's first line in the note.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        _name(error)


def _name(error: RuntimeError) -> NoReturn:
    rank, size = os.environ["RANK"], os.environ["WORLD_SIZE"]
    raise MerinoError(
        f"process {rank} of {size} lost another: the run ended in it, or could not be reached.",
        note=f"{str(error).strip().splitlines()[0]}; the last saved state is untouched.",
        hint="look above for that process's own error; the same command with --resume continues.",
    ) from error
