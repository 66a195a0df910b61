"""A step is the same in one pass or several, and moves nothing unless all of it is finite."""

import numpy as np
import pytest

from merino_edge.errors import SpecError, UsageError
from merino_edge.training.config import TrainConfig

pytestmark = pytest.mark.torch
WINDOWS = np.random.default_rng(0).integers(0, 320, size=(8, 33))


class WorldOfThree:
    """As much of a world as is asked before processes exchange anything."""

    rank, size = 0, 3


def stepper(architecture, world=None, teacher=None, seed=0, **settings):
    from merino_edge.model.transformer import new_model
    from merino_edge.training.machine import Machine
    from merino_edge.training.step import Stepper
    from merino_edge.training.world import World

    config = TrainConfig(n_steps=10, seq_len=32, **settings)
    model = new_model(architecture, seed)
    return Stepper(model, config, Machine(config), world or World(), teacher)


def after(steps, n_steps=3):
    """(results, weights) after some steps."""
    results = [steps.run(WINDOWS, 1e-3) for _ in range(n_steps)]
    return results, {name: array.copy() for name, array in steps.weights().items()}


@pytest.mark.parametrize(("batch_size", "accumulate"), [(4, 2), (2, 4), (1, 8)])
def test_several_passes_make_the_step_of_one(architecture, batch_size, accumulate):
    whole, whole_weights = after(stepper(architecture, batch_size=8))
    parts, weights = after(stepper(architecture, batch_size=batch_size, accumulate=accumulate))
    for one, other in zip(whole, parts, strict=True):
        # The same 256 losses, added in another order: float32's last digits.
        assert other.loss == pytest.approx(one.loss, rel=1e-6)
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-5)
    for name, array in weights.items():
        # AdamW divides a gradient by its own size, so where it is nearly zero its noise may move a
        # weight either way: by no more than the rate, and by far less on average.
        gap = np.abs(array - whole_weights[name])
        assert gap.max() < 3e-3
        assert gap.mean() < 1e-5


def test_windows_that_cannot_be_shared_equally_are_refused(architecture):
    with pytest.raises(SpecError, match="8 windows a step cannot be shared by 3 processes"):
        stepper(architecture, WorldOfThree(), batch_size=4, accumulate=2)


def test_one_process_has_nothing_to_shard(architecture):
    with pytest.raises(UsageError, match="there is one process") as raised:
        stepper(architecture, batch_size=8, shard=True)
    assert "torchrun" in raised.value.hint


def test_a_step_that_is_not_finite_moves_nothing(architecture):
    import torch

    steps = stepper(architecture, batch_size=4, accumulate=2)
    with torch.no_grad():
        steps.model.embed.weight[int(WINDOWS[7, 0])] = float("nan")  # in the second pass only
    before = {name: array.copy() for name, array in steps.weights().items()}
    result = steps.run(WINDOWS, 1e-3)
    assert result.refused
    assert not result.skipped
    unchanged = steps.weights()
    assert all(np.array_equal(before[name], unchanged[name], equal_nan=True) for name in before)


def test_half_precision_stays_near_single(architecture):
    exact, _ = after(stepper(architecture, batch_size=8))
    for precision in ("bfloat16", "float16"):
        found, _ = after(stepper(architecture, batch_size=8, precision=precision))
        for one, other in zip(exact, found, strict=True):
            assert other.loss == pytest.approx(one.loss, rel=1e-3)


def test_a_float16_step_that_overflows_is_skipped_and_the_loss_scaled_less(architecture):
    steps = stepper(architecture, batch_size=8, precision="float16")
    steps.restore(0, steps.weights(), zero_moments(steps), scaling(2.0**127))
    before = {name: array.copy() for name, array in steps.weights().items()}
    result = steps.run(WINDOWS, 1e-3)
    assert result.skipped
    assert not result.refused
    assert steps.scaling() == scaling(2.0**126, n_skipped=1)
    assert all(np.array_equal(before[name], array) for name, array in steps.weights().items())


def test_a_float16_run_continues_with_its_scale_and_the_count_of_real_steps(architecture):
    whole = stepper(architecture, batch_size=8, precision="float16")
    whole.restore(0, whole.weights(), zero_moments(whole), scaling(2.0**24))
    while whole.run(WINDOWS, 1e-3).skipped:
        pass
    n_done = whole.scaling().n_skipped + 1
    other = stepper(architecture, batch_size=8, precision="float16", seed=5)
    weights, moments = (
        {n: a.copy() for n, a in x.items()} for x in (whole.weights(), whole.moments())
    )
    other.restore(n_done, weights, moments, whole.scaling())
    assert other.scaling() == whole.scaling()
    _, first = after(whole)
    _, second = after(other)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def scaling(scale, n_skipped=0):
    from merino_edge.training.run_folder import Scaling

    return Scaling(scale, 0, n_skipped)


def zero_moments(steps):
    shapes = {name: array.shape for name, array in steps.weights().items()}
    kinds = ("exp_avg", "exp_avg_sq")
    return {f"{k}.{n}": np.zeros(s, np.float32) for k in kinds for n, s in shapes.items()}


def test_a_teacher_pulls_the_student_towards_itself(architecture):
    import torch

    from merino_edge.model.transformer import new_model

    teacher = new_model(architecture, 9)
    settings = {"batch_size": 8, "distill_weight": 1.0}
    steps = stepper(architecture, teacher=teacher, **settings)
    results, _ = after(steps, 20)
    assert results[-1].loss < 0.8 * results[0].loss
    with torch.no_grad():
        ids = torch.from_numpy(WINDOWS[:, :-1])
        gap = (teacher(ids).softmax(-1) - steps.model(ids).softmax(-1)).abs().sum(-1).mean()
        start = stepper(architecture, **settings).model
        first_gap = (teacher(ids).softmax(-1) - start(ids).softmax(-1)).abs().sum(-1).mean()
    assert gap < first_gap
    assert all(p.grad is None for p in teacher.parameters())


def test_a_weight_of_zero_leaves_the_teacher_out(architecture):
    from merino_edge.model.transformer import new_model

    _, plain = after(stepper(architecture, batch_size=8))
    told = stepper(
        architecture, teacher=new_model(architecture, 9), batch_size=8, distill_weight=0.0
    )
    _, found = after(told)
    assert all(np.array_equal(plain[name], found[name]) for name in plain)
