"""Where a run computes: what is asked for is there, or the error says what is missing."""

import pytest

from merino_edge.errors import MerinoError, UnsupportedError
from merino_edge.training.config import TrainConfig

pytestmark = pytest.mark.torch


def test_auto_is_the_cpu_where_torch_sees_no_gpu(monkeypatch):
    import torch

    from merino_edge.training.machine import device_for

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_for("auto") == device_for("cpu") == torch.device("cpu")
    with pytest.raises(UnsupportedError, match="device is 'cuda', and torch sees no GPU") as raised:
        device_for("cuda")
    assert "--device cpu" in raised.value.hint


@pytest.mark.parametrize(
    ("precision", "kind"),
    [("float32", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")],
)
def test_precision_is_that_of_products_and_only_float16_scales_the_loss(precision, kind):
    import torch

    from merino_edge.training.machine import Machine

    machine = Machine(TrainConfig(n_steps=1, precision=precision, device="cpu"))
    with machine.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == getattr(torch, kind)
    assert machine.scaler.is_enabled() == (precision == "float16")


def test_threads_are_set_while_the_block_runs():
    import torch

    from merino_edge.training.machine import torch_threads

    before = torch.get_num_threads()
    with torch_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with torch_threads(None):
        assert torch.get_num_threads() == before


def test_what_torch_compile_misses_becomes_one_of_our_errors(monkeypatch):
    from torch._dynamo.exc import BackendCompilerFailed

    from merino_edge.training.machine import compile_errors_named

    def inductor():
        """A backend, by its name."""

    expected = pytest.raises(MerinoError, match="compile failed: BackendCompilerFailed")
    with expected as raised, compile_errors_named():
        raise BackendCompilerFailed(inductor, RuntimeError("no C++ compiler"), None)
    assert "--compile" in raised.value.hint
    with pytest.raises(ZeroDivisionError), compile_errors_named():
        raise ZeroDivisionError


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch.compile's own, of itself
def test_a_compiled_run_gives_the_losses_of_a_plain_one(tmp_path, texts, architecture, settings):
    import json

    from merino_edge.training.trainer import train

    losses = []
    for name, more in (("plain", {}), ("compiled", {"compile": True})):
        config = TrainConfig(**{**settings, "n_steps": 6, **more})
        train(architecture, [str(texts)], config, str(tmp_path / name))
        lines = (tmp_path / f"{name}.run" / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    # Fused operations round in other places: float32's last digits.
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
