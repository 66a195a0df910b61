"""SIGKILL at any moment costs the steps since the last state, and not one bit of the result."""

import random
import time

import numpy as np
import pytest
from torchrun import curve, finish, launch

from merino_edge.formats.architecture import write_architecture

pytestmark = [pytest.mark.torch, pytest.mark.slow]
WORDS = ["--corpus", "texts", "--steps", "300"]


def test_a_killed_run_that_continues_has_the_weights_of_an_uninterrupted_one(
    tmp_path, texts, architecture
):
    from merino_edge.model.checkpoint import load_checkpoint

    write_architecture(str(tmp_path / "arch.json"), architecture)
    (tmp_path / "texts").symlink_to(texts)
    code, err = finish(launch(tmp_path, 1, *WORDS, "-o", "whole"))
    assert code == 0, err
    log = tmp_path / "cut.run" / "metrics.jsonl"
    for _ in range(2):
        process = launch(tmp_path, 1, *WORDS, "-o", "cut", "--resume")
        while not (tmp_path / "cut.run" / "state.json").exists():
            assert process.poll() is None, finish(process)
            time.sleep(0.01)
        time.sleep(random.uniform(0.0, 0.4))  # wherever it is: in a step, or while it saves
        process.kill()
        assert finish(process)[0] != 0
        assert log.exists()
    code, err = finish(launch(tmp_path, 1, *WORDS, "-o", "cut", "--resume"))
    assert code == 0, err
    assert curve(tmp_path, "cut") == curve(tmp_path, "whole")
    whole, cut = (load_checkpoint(str(tmp_path / name)) for name in ("whole", "cut"))
    assert cut.info == whole.info
    first, second = whole.tensors(), cut.tensors()
    assert all(np.array_equal(first[name], second[name]) for name in first)
