"""A model over the processes of a world: a copy in each (DDP), or a part in each (FSDP).

The one idea: both are torch's own. With DistributedDataParallel every process has all weights and
the gradients are averaged on the way back; with ``fully_shard`` a process has its part of every
matrix, of its gradient and of its moments, and a block's weights are gathered for the moment in
which they are used. Copies are faster as long as they fit; sharding takes 1/n of the memory.
"""

from collections.abc import Iterable
from typing import cast

from torch import nn

from merino_edge.errors import UnsupportedError, UsageError
from merino_edge.model.transformer import SharedBlock
from merino_edge.training.config import TrainConfig
from merino_edge.training.machine import Machine, compiled
from merino_edge.training.world import World


def spread_model(
    model: nn.Module, config: TrainConfig, machine: Machine, world: World
) -> nn.Module:
    """What to call for a training pass; ``model`` keeps its parameters' names.

    Raises:
        UsageError: Parts are asked for, and there is one process.
        UnsupportedError: This torch cannot shard.
    """
    if config.shard:
        if world.size == 1:
            raise UsageError(
                "--shard shares a model out, and there is one process.",
                hint="start several: torchrun --nproc-per-node 2 -m merino_edge train ...",
            )
        if machine.scaler.is_enabled():
            raise UsageError(
                "--shard does not go with --precision float16.",
                hint="use --precision bfloat16, which needs no scaled loss.",
            )
        _shard(model, machine, world)
    elif world.size > 1:
        forward = compiled(model) if config.compile else model
        return _copies(forward, machine)
    return compiled(model) if config.compile else model


def _copies(model: nn.Module, machine: Machine) -> nn.Module:
    from torch.nn.parallel import DistributedDataParallel

    index = machine.device.index
    return DistributedDataParallel(
        model, device_ids=None if index is None else [index], gradient_as_bucket_view=True
    )


def _shard(model: nn.Module, machine: Machine, world: World) -> None:
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise UnsupportedError(
            "--shard needs fully_shard, which torch has from 2.6 on.",
            hint="train without --shard, or install a newer torch.",
        ) from error
    mesh = init_device_mesh(machine.device.type, (world.size,))
    # A block's joint is called from outside it, so a block is no unit of its own.
    for block in cast(Iterable[SharedBlock], model.blocks):
        fully_shard(block.attn, mesh=mesh)
        fully_shard(block.ffn, mesh=mesh)
    fully_shard(model, mesh=mesh)
