"""The learning rate is a function of the step; matrices decay and the rest does not."""

import pytest

from merino_edge.training.config import TrainConfig

pytestmark = pytest.mark.torch


@pytest.fixture
def config():
    return TrainConfig(n_steps=100, learning_rate=1e-3, warmup_steps=10, min_lr_ratio=0.1)


def test_the_rate_rises_to_its_peak_and_falls_to_its_floor(config):
    from merino_edge.training.optim import learning_rate_at

    rates = [learning_rate_at(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == rates[9] == rates[10] == pytest.approx(1e-3)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(1e-4)


def test_matrices_decay_and_norms_and_biases_do_not(architecture, config):
    from merino_edge.model.transformer import new_model
    from merino_edge.training.optim import make_optimizer

    model = new_model(architecture, seed=0)
    decay, plain, joints = make_optimizer(model, config).param_groups
    assert {p.dim() for p in decay["params"]} == {2}
    assert {p.dim() for p in plain["params"]} == {1}
    assert (decay["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    together = decay["params"] + plain["params"] + joints["params"]
    assert {id(p) for p in together} == {id(p) for p in model.parameters()}


def test_joints_learn_slowly_and_do_not_decay(architecture, config):
    from merino_edge.model.transformer import new_model
    from merino_edge.training.optim import make_optimizer, set_learning_rate

    model = new_model(architecture, seed=0)
    optimizer = make_optimizer(model, config)
    *others, joints = optimizer.param_groups
    named = {id(p): name for name, p in model.named_parameters()}
    names = sorted(named[id(p)] for p in joints["params"])
    assert names == ["blocks.1.joint.weight", "head_joint.weight"]
    assert joints["weight_decay"] == 0.0
    set_learning_rate(optimizer, 1e-3)
    assert joints["lr"] == pytest.approx(1e-4)
    assert {group["lr"] for group in others} == {1e-3}
