"""AdamW and its learning rate, as in GPT-2's descendants.

Matrices decay, embeddings included; norms and biases do not (nanoGPT's rule: by the number of
dimensions). A shared matrix is one parameter with one decay, whatever the depth of its block.
Joints, which carry the whole residual and start as the identity, do not decay, and learn at a
tenth of the rate: a step of Adam at the full rate disturbs all that follows.

The rate rises linearly, then falls along half a cosine. It is a function of the step alone, so a
resumed run needs no memory of it.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from merino_edge.model.transformer import is_joint
from merino_edge.training.arrays import array_of, tensor_like
from merino_edge.training.config import TrainConfig

RATE = "rate"  # a group's part of the learning rate
JOINT_RATE = 0.1  # of the others'
MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's two moving averages, by their names in torch


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Rate of optimiser step ``step``, counted from 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    falling = max(1, config.n_steps - 1 - config.warmup_steps)
    progress = min(1.0, (step - config.warmup_steps) / falling)
    floor = config.min_lr_ratio
    return config.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with decay on matrices only, and slow joints.

    Measured on a decoder 96, 128, 128 wide and 1.5 M tokens: joints at the full rate 4.22 nats a
    token, at 0.3 of it 4.12, at 0.1 4.06, not trained at all 4.05 (single seeds).

    Fused, one pass over all tensors: 1.8 ms a step instead of 3.1 for 0.9 M parameters on two
    cores.
    """
    joints = [p for name, p in model.named_parameters() if is_joint(name)]
    others = [p for name, p in model.named_parameters() if not is_joint(name)]
    groups = [
        {"params": [p for p in others if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.dim() < 2], "weight_decay": 0.0},
        {"params": joints, "weight_decay": 0.0, RATE: JOINT_RATE},
    ]
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its part of this rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(RATE, 1.0)


def moments_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """AdamW's moving averages as float32 arrays: "exp_avg.embed.weight" and so on."""
    return {
        f"{moment}.{name}": array_of(optimizer.state[parameter][moment])
        for name, parameter in model.named_parameters()
        for moment in MOMENTS
    }


def restore_moments(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    moments: Mapping[str, np.ndarray],
    step: int,
) -> None:
    """The way back from ``moments_of``, after ``step`` optimiser steps."""
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        state["step"] = torch.tensor(float(step), device=parameter.device)
        for moment in MOMENTS:
            state[moment] = tensor_like(parameter, moments[f"{moment}.{name}"])
