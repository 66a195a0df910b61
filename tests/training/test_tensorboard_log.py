"""TensorBoard reads what the log says, once a step, also after a resumed run."""

import importlib.util

import pytest

from merino_edge.errors import MissingDependencyError

pytestmark = pytest.mark.torch
here = importlib.util.find_spec("tensorboard") is not None
needs_tensorboard = pytest.mark.skipif(not here, reason="not installed: tensorboard")


def points(path):
    """(step, value) of each curve."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


@needs_tensorboard
def test_a_resumed_log_reads_like_one_runs(tmp_path):
    from merino_edge.training.tensorboard_log import TensorBoardLog

    first = TensorBoardLog(str(tmp_path), 0)
    for step in (1, 2, 3):
        first.add(step=step, loss=float(step), grad_norm=None)
    first.close()
    second = TensorBoardLog(str(tmp_path), 2)
    second.add(step=3, loss=30.0, val_loss=4.0)
    second.flush()
    second.close()
    assert points(tmp_path) == {
        "train/loss": [(1, 1.0), (2, 2.0), (3, 30.0)],
        "train/val_loss": [(3, 4.0)],
    }


@needs_tensorboard
def test_a_run_writes_its_curves(tmp_path, texts, architecture, settings):
    from merino_edge.training.config import TrainConfig
    from merino_edge.training.trainer import Extras, train

    config = TrainConfig(**{**settings, "n_steps": 4})
    extras = Extras(tensorboard=str(tmp_path / "events"))
    train(architecture, [str(texts)], config, str(tmp_path / "out"), extras=extras)
    found = points(tmp_path / "events")
    assert [step for step, _ in found["train/loss"]] == [1, 2, 3, 4]
    assert [step for step, _ in found["train/val_loss"]] == [4]


def test_without_the_package_the_error_says_what_to_install(monkeypatch, tmp_path):
    import sys

    from merino_edge.training.tensorboard_log import TensorBoardLog

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match="tensorboard") as raised:
        TensorBoardLog(str(tmp_path), 0)
    assert "pip install" in raised.value.hint
