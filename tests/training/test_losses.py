"""The chunked loss is torch's own, and a teacher's distance is Hinton's."""

import numpy as np
import pytest

pytestmark = pytest.mark.torch


def logits_and_targets(n_rows, n_ids=37, kind="float32", seed=0):
    import torch

    draw = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n_rows, n_ids, generator=draw)
    targets = torch.randint(0, n_ids, (n_rows,), generator=draw)
    return logits.to(getattr(torch, kind)).requires_grad_(), targets


def gradient_of(loss, logits, scale=1.0):
    (loss * scale).backward()
    found, logits.grad = logits.grad, None
    return found


# Sums of up to 200 numbers near 5 in another order: a few units in float32's last place. A half
# precision gradient is rounded to 8 or 11 bits, so two that agree in float32 differ by one unit.
@pytest.mark.parametrize(("kind", "gap"), [("float32", 1e-6), ("bfloat16", 2**-8)])
@pytest.mark.parametrize("n_rows", [1, 63, 64, 65, 200], ids=lambda n: f"{n} rows")
def test_loss_and_gradient_are_those_of_torch(n_rows, kind, gap):
    import torch
    from torch.nn import functional as F

    from merino_edge.training.losses import next_token_loss

    logits, targets = logits_and_targets(n_rows, kind=kind)
    ours = next_token_loss(logits, targets)
    theirs = F.cross_entropy(logits.float(), targets)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    first, second = gradient_of(ours, logits), gradient_of(theirs, logits)
    assert first.dtype == getattr(torch, kind)
    assert torch.allclose(first.float(), second.float(), rtol=2 * gap, atol=gap / n_rows)


def test_a_scaled_loss_has_a_scaled_gradient():
    import torch

    from merino_edge.training.losses import next_token_loss

    logits, targets = logits_and_targets(70)
    plain = gradient_of(next_token_loss(logits, targets), logits)
    scaled = gradient_of(next_token_loss(logits, targets), logits, scale=1024.0)
    assert torch.equal(scaled, plain * 1024)


def test_the_kept_gradient_is_used_once():
    from merino_edge.training.losses import next_token_loss

    logits, targets = logits_and_targets(3)
    loss = next_token_loss(logits, targets)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def softmax(rows):
    powers = np.exp(rows - rows.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_distillation_is_kl_at_a_temperature_times_its_square(temperature):
    from merino_edge.training.losses import distillation_loss

    student, _ = logits_and_targets(9)
    teacher, _ = logits_and_targets(9, seed=1)
    p, q = (softmax(x.detach().numpy().astype(float) / temperature) for x in (teacher, student))
    expected = (p * np.log(p / q)).sum(-1).mean() * temperature**2
    found = distillation_loss(student, teacher.detach(), temperature)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    # (2) of Hinton et al., times T^2: T (q - p), over the mean's nine rows.
    slope = gradient_of(found, student).numpy()
    assert slope == pytest.approx(temperature * (q - p) / 9, abs=1e-6)


def test_a_student_that_equals_its_teacher_has_nothing_to_learn():
    from merino_edge.training.losses import distillation_loss

    student, _ = logits_and_targets(5)
    found = distillation_loss(student, student.detach(), 2.0)
    assert found.item() == pytest.approx(0, abs=1e-6)
    assert gradient_of(found, student).abs().max() < 1e-6
