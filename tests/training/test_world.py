"""A world of one needs nothing; a world of two agrees; what torch.distributed says gets a sentence.

Whole runs of several processes are in test_distributed.py.
"""

import json
import os
import socket
import subprocess
import sys

import pytest
from torchrun import ENVIRONMENT

from merino_edge.errors import MerinoError, SpecError

pytestmark = pytest.mark.torch


def test_a_world_of_one_answers_by_itself():
    import torch

    from merino_edge.training.world import World, world_of

    with world_of(torch.device("cpu")) as world:
        assert type(world) is World
        assert world.is_first
        assert (world.mean(0.1), world.highest(15)) == (0.1, 15)
        assert world.agree(lambda: True)
        assert world.first(lambda: "made", lambda: "read") == "made"


def test_one_process_under_torchrun_is_a_world_of_one(monkeypatch):
    import torch

    from merino_edge.training.world import World, world_of

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with world_of(torch.device("cpu")) as world:
        assert type(world) is World


def test_a_lost_process_is_named_with_torchs_first_line(monkeypatch):
    from merino_edge.training.world import lost_process_named

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    expected = pytest.raises(MerinoError, match="process 1 of 4 lost another")
    with expected as raised, lost_process_named():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:525] Connection closed by peer\nmore")
    assert "Connection closed by peer; the last saved state is untouched" in raised.value.note
    assert "--resume" in raised.value.hint


def test_torchs_own_errors_are_named_and_others_pass(monkeypatch):
    import torch.distributed as dist

    from merino_edge.training.world import lost_process_named

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MerinoError, match="lost another"), lost_process_named():
        raise dist.DistNetworkError("the socket has timed out")
    with pytest.raises(SpecError), lost_process_named():
        raise SpecError("is 0, must be at least 1.", field="n_steps")
    with pytest.raises(RuntimeError, match="shape"), lost_process_named():
        raise RuntimeError("shape mismatch")


TWO = """
import json, sys
import torch
from merino_edge.errors import SpecError
from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.training.config import TrainConfig
from merino_edge.training.machine import Machine, expected_remarks
from merino_edge.training.spread import spread_model
from merino_edge.training.world import ToldError, world_of
from merino_edge.model.transformer import new_model

def fail():
    raise SpecError("is 0, must be at least 1.", field="n_steps")

def loss_of(shard):
    config = TrainConfig(n_steps=1, batch_size=1, seq_len=8, shard=shard)
    blocks = (BlockSpec(16, 2, 2, 32, 2), BlockSpec(24, 2, 1, 48, 1))
    model = new_model(Architecture(blocks=blocks, vocab_size=64, max_seq_len=16), 0)
    with expected_remarks():
        forward = spread_model(model, config, Machine(config), world)
        loss = forward(torch.arange(8)[None] + 8 * world.rank).square().mean()
        loss.backward()
    grads = [p.grad for p in model.parameters()]
    norms = [float((g.full_tensor() if hasattr(g, "full_tensor") else g).norm()) for g in grads]
    return {"loss": world.mean(float(loss.detach())), "grads": norms}

with world_of(torch.device("cpu")) as world:
    said = {
        "rank": world.rank,
        "first": world.is_first,
        "mean": world.mean(0.1 + world.rank),
        "highest": world.highest(7 * world.rank),
        "agree": [world.agree(lambda: True), world.agree(lambda: False)],
        "made": world.first(lambda: "made", lambda: "read"),
        "copies": loss_of(False),
        "parts": loss_of(True),
    }
    try:
        world.first(fail, lambda: "read")
    except SpecError as error:
        said["error"] = ["own", error.exit_code]
    except ToldError as error:
        said["error"] = ["told", error.exit_code]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def two():
    """What two processes said, the first one first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT, **address, "RANK": str(rank), "WORLD_SIZE": "2"},
        )
        for rank in range(2)
    ]
    return [json.loads(process.communicate(timeout=120)[0]) for process in processes]


def test_two_processes_say_the_same_and_one_of_them_is_first(two):
    assert [each["rank"] for each in two] == [0, 1]
    assert [each["first"] for each in two] == [True, False]
    for each in two:
        assert each["mean"] == pytest.approx(0.6)
        assert each["highest"] == 7
        assert each["agree"] == [True, False]
    assert two[0]["mean"] == two[1]["mean"]


def test_the_first_makes_and_the_others_read(two):
    assert [each["made"] for each in two] == ["made", "read"]


def test_the_error_of_the_first_ends_all_with_its_code(two):
    assert [each["error"] for each in two] == [["own", 2], ["told", 2]]


def test_copies_and_parts_of_a_model_have_the_gradients_of_each_other(two):
    for each in two:
        assert each["copies"]["loss"] == pytest.approx(each["parts"]["loss"], rel=1e-6)
        assert each["copies"]["grads"] == pytest.approx(each["parts"]["grads"], rel=1e-4, abs=1e-7)
        assert any(each["copies"]["grads"])
    assert two[0]["copies"]["grads"] == pytest.approx(two[1]["copies"]["grads"])
