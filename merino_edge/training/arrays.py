"""Tensors to arrays and back, wherever a tensor lives: here, on a GPU, or in parts over processes.

The one idea: a saved state is whole float32 arrays on the CPU, so any number of processes can make
it and any other number can read it. A sharded tensor is gathered by all processes together, and
each takes its own part of an array on the way back.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor, of which this process holds a part."""
    return hasattr(tensor, "full_tensor")


def whole_of(tensor: Any) -> Tensor:
    """The tensor, gathered from all processes if each holds a part."""
    whole: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor
    return whole


def array_of(tensor: Tensor) -> np.ndarray:
    """A tensor as a float32 array; a view where it is whole and here already."""
    return whole_of(tensor).detach().cpu().numpy()


def tensor_like(like: Any, array: np.ndarray) -> Tensor:
    """A copy of an array, placed and spread as another tensor is."""
    whole = torch.from_numpy(array.copy()).to(like.device)
    if not is_sharded(like):
        return whole
    from torch.distributed.tensor import distribute_tensor  # slow to load, and seldom needed

    return distribute_tensor(whole, like.device_mesh, like.placements)


def weights_of(model: nn.Module) -> dict[str, np.ndarray]:
    """A model's parameters by name."""
    return {name: array_of(tensor) for name, tensor in model.state_dict().items()}


def load_weights(model: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Copy arrays into a model's parameters, by name."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensor_like(parameter, arrays[name]))
