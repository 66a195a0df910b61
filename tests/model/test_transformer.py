"""The torch model stores what the architecture says, and its cache changes nothing."""

import numpy as np
import pytest
from doubles import (
    llama_architecture,
    neox_architecture,
    post_norm_architecture,
    random_tensors,
    tiny_architecture,
)

from merino_edge.core import counting
from merino_edge.errors import FormatError, SessionError
from merino_edge.formats.weights import weight_shapes
from merino_edge.model.checkpoint import (
    CheckpointInfo,
    load_checkpoint,
    save_checkpoint,
)

torch = pytest.importorskip("torch")
from merino_edge.model.reference import greedy_steps, greedy_tokens  # noqa: E402
from merino_edge.model.transformer import Cache, MerinoLM, load_model  # noqa: E402

pytestmark = pytest.mark.torch
FAMILIES = [
    tiny_architecture(),
    tiny_architecture(d_embed=12, activation="gelu_tanh"),
    llama_architecture(),
    llama_architecture(tie_embeddings=False),
    neox_architecture(),
    neox_architecture(parallel_residual=False, rope_fraction=0.5),
    post_norm_architecture(),
    post_norm_architecture(blocks=tiny_architecture().blocks),
]


@pytest.mark.parametrize("a", FAMILIES)
def test_parameters_are_the_stored_tensors_by_name_and_shape(a):
    model = MerinoLM(a)
    assert {n: tuple(p.shape) for n, p in model.named_parameters()} == weight_shapes(a)
    assert sum(p.numel() for p in model.parameters()) == counting.n_params(a)


@torch.no_grad()
@pytest.mark.parametrize("a", FAMILIES)
@pytest.mark.parametrize("chunks", [(12,), (1,) * 12, (5, 1, 6), (11, 1)])
def test_with_cache_equals_without(a, chunks):
    model = load_model(a, random_tensors(a, 0))
    ids = torch.arange(24).reshape(2, 12) % a.vocab_size
    cache = Cache(a, capacity=12, batch=2)
    parts = torch.split(ids, list(chunks), dim=1)

    cached = torch.cat([model(part, cache) for part in parts], dim=1)
    torch.testing.assert_close(cached, model(ids), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_shared_block_is_the_same_as_its_copies_one_after_another():
    shared = tiny_architecture(blocks=(tiny_architecture().blocks[0]._replace(depth=3),))
    single = shared.blocks[0]._replace(depth=1)
    copies = shared.replace(blocks=(single,) * 3)
    tensors = random_tensors(shared, 0)
    unrolled = {}
    for name in weight_shapes(copies):
        parts = name.split(".")
        if parts[0] == "blocks":
            if parts[2] == "norms":
                parts[3] = parts[1]
            parts[1] = "0"
        unrolled[name] = tensors[".".join(parts)]
    ids = torch.arange(10)[None]

    torch.testing.assert_close(
        load_model(shared, tensors)(ids), load_model(copies, unrolled)(ids), atol=0, rtol=0
    )


@torch.no_grad()
def test_a_new_joint_passes_the_residual_on_as_it_is():
    a = tiny_architecture()
    model = MerinoLM(a)
    widen, narrow = model.blocks[1].joint, model.head_joint
    x = torch.randn(3, a.blocks[0].d_model)
    wide = widen(x)
    assert torch.equal(wide[:, : x.shape[1]], x)
    assert not wide[:, x.shape[1] :].any()
    assert torch.equal(narrow(wide), x)


def test_no_token_sees_the_future():
    a = llama_architecture()
    model = load_model(a, random_tensors(a, 0))
    ids = torch.arange(10)[None]
    changed = ids.clone()
    changed[0, 6:] = 99

    torch.testing.assert_close(model(ids)[0, :6], model(changed)[0, :6])
    assert (model(ids)[0, 6:] - model(changed)[0, 6:]).abs().max() > 0.1


def test_more_positions_than_there_are_is_refused_with_both_numbers():
    a = tiny_architecture()
    with pytest.raises(SessionError, match="49 positions are asked for, 48 are there"):
        MerinoLM(a)(torch.zeros(1, 49, dtype=torch.long))
    with pytest.raises(SessionError, match="5 positions are asked for, 4 are there"):
        MerinoLM(a)(torch.zeros(1, 5, dtype=torch.long), Cache(a, 4))


@torch.no_grad()
def test_greedy_steps_tell_how_clear_each_choice_was():
    a = tiny_architecture()
    model = load_model(a, random_tensors(a, 0))
    steps = greedy_steps(model, [1, 2, 3], 60)

    assert len(steps) == a.max_seq_len - 3  # it stops when the sequence is full
    assert greedy_tokens(model, [1, 2, 3], 5) == [step.token for step in steps[:5]]
    top = model(torch.tensor([[1, 2, 3]]))[0, -1].sort(descending=True).values
    assert steps[0].margin == pytest.approx(float(top[0] - top[1]))


TOKENIZER = '{"model": {"vocab": {"a": 0, "b": 299}}, "added_tokens": []}'


def test_a_checkpoint_gives_back_every_bit(tmp_path):
    a = tiny_architecture()
    tensors = random_tensors(a, 0)
    info = CheckpointInfo(a, step=7, metrics={"val_loss": 2.5}, provenance={"corpus": "x"})
    save_checkpoint(str(tmp_path / "c"), info, tensors, TOKENIZER)
    again = load_checkpoint(str(tmp_path / "c"))

    assert again.info == info
    for name, array in again.tensors().items():
        np.testing.assert_array_equal(array, tensors[name])


def test_weights_of_another_architecture_are_refused_by_name(tmp_path):
    tensors = random_tensors(tiny_architecture(), 0)
    info = CheckpointInfo(llama_architecture())
    with pytest.raises(FormatError, match=r"blocks\.0\.attn\.qkv\.weight: shape is"):
        save_checkpoint(str(tmp_path / "c"), info, tensors, TOKENIZER)
    assert not (tmp_path / "c").exists()


def test_a_tokenizer_with_more_ids_than_rows_is_refused_with_both_numbers(tmp_path):
    a = tiny_architecture(vocab_size=299)
    with pytest.raises(FormatError, match="highest id is 299, the embedding has 299 rows"):
        save_checkpoint(str(tmp_path / "c"), CheckpointInfo(a), random_tensors(a, 0), TOKENIZER)
