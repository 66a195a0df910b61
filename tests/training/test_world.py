"""A world of one needs nothing; the border to torch.distributed names what went wrong.

Real worlds of several processes are in test_distributed.py.
"""

import pytest

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
