"""DSS and SynFlow see every matrix, and are what their definitions say."""

import math
import sys

import numpy as np
import pytest
from doubles import llama_architecture, tiny_architecture

from merino_edge.core import space as spaces
from merino_edge.formats.architecture import BlockSpec

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from merino_edge.model import zero_shot  # noqa: E402
from merino_edge.model.layers import rope_tables  # noqa: E402
from merino_edge.model.zero_shot import dss, fresh_body, log_score, synflow  # noqa: E402

pytestmark = pytest.mark.torch
GROUPED = BlockSpec(d_model=8, n_head=4, n_kv_head=2, d_ff=10, depth=2)
ONE_BLOCK = [  # with a joint before it, and applied twice
    tiny_architecture(blocks=(GROUPED._replace(n_kv_head=4),), d_embed=6),
    llama_architecture(blocks=(GROUPED,), d_embed=6),
]
FAMILIES = [
    tiny_architecture(),
    tiny_architecture(d_embed=12, activation="relu"),
    llama_architecture(),
    llama_architecture(tie_embeddings=False),
]
MATRICES = ["attn.qkv", "attn.out", "ffn.up", "ffn.down"]
SCORES = [(dss, zero_shot.nuclear_norms), (synflow, zero_shot.flow)]


@pytest.fixture(autouse=True)
def _one_thread():
    """These matrices are small: on a busy machine a second thread costs more than it helps."""
    earlier = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(earlier)


def extremes(space):
    """The smallest and the largest member: (widths, ratios, depths) all first or all last."""
    largest = np.tile([n - 1 for n in space.n_choices], (space.n_blocks, 1))
    return space.decode(space.smallest()), space.decode(largest)


# The slow twin: R written out, its derivatives by central differences. R is quadratic in each
# matrix at depth 2, so the differences are exact but for rounding, whatever the step.


def twin_r(w, block, gated):
    x = w["joint"] @ np.ones(w["joint"].shape[1])
    for _ in range(block.depth):
        value = w["attn.qkv"][(block.n_head + block.n_kv_head) * block.head_dim :] @ x
        heads = [h * block.n_kv_head // block.n_head for h in range(block.n_head)]
        x = x + w["attn.out"] @ value.reshape(block.n_kv_head, -1)[heads].reshape(-1)
        up = w["ffn.up"] @ x
        x = x + w["ffn.down"] @ (up[: block.d_ff] + up[block.d_ff :] if gated else up)
    return x.sum()


def twin_gradient(w, name, block, gated):
    gradient, matrix = np.zeros_like(w[name]), w[name]
    for index in np.ndindex(*matrix.shape):
        before = matrix[index]
        ends = []
        for step in (-0.5, 0.5):
            matrix[index] = before + step
            ends.append(twin_r(w, block, gated))
        matrix[index] = before
        gradient[index] = ends[1] - ends[0]
    return gradient


def nuclear_norm(matrix):
    return np.linalg.svd(matrix, compute_uv=False).sum()


@pytest.mark.parametrize("a", ONE_BLOCK, ids=["plain", "grouped and gated"])
def test_scores_equal_a_numpy_twin_with_numerical_derivatives(a):
    stored = dict(fresh_body(a, 3).blocks[0].named_parameters())
    names = ["joint", *MATRICES]
    w = {n: stored[n + ".weight"].detach().double().numpy().copy() for n in names}
    gradients = {n: twin_gradient(w, n, a.blocks[0], a.gated_ffn) for n in names}
    flows = {n: abs(w[n] * gradients[n]).sum() for n in names}
    norms = {n: nuclear_norm(w[n]) * nuclear_norm(gradients[n]) for n in names[1:3]}

    # 1e-5 in a logarithm: float32 against float64.
    assert synflow(a, 3) == pytest.approx(math.log(sum(flows.values())), abs=1e-5)
    assert dss(a, 3) == pytest.approx(math.log(sum({**flows, **norms}.values())), abs=1e-5)


@pytest.mark.parametrize("position", ["learned", "rope"])
def test_the_pass_is_the_real_blocks_without_norms_and_activations(position):
    a = tiny_architecture(blocks=(GROUPED._replace(depth=3),) * 2, position=position)
    body, n_tokens = fresh_body(a, 0).double(), 5
    x = torch.ones(1, n_tokens, 8, dtype=torch.float64)
    cos, sin = (table.double() for table in rope_tables(n_tokens, 2, a.rope_base))
    rope = (cos, sin) if position == "rope" else None
    for block in body.blocks:
        block.ffn.activation = nn.Identity()
        for norms in block.norms:
            norms.attn = norms.ffn = nn.Identity()
        x = block(x, rope, iter([None] * 3), 0)
    (x.sum() / n_tokens).backward()

    matrices = [p for p in body.blocks.parameters() if p.dim() == 2]
    total = sum(zero_shot.flow(p).item() for p in matrices)
    assert synflow(a) == pytest.approx(math.log(total), abs=1e-5)  # queries and keys: zero


@pytest.mark.parametrize(("score", "term"), SCORES, ids=["dss", "synflow"])
@pytest.mark.parametrize("a", [tiny_architecture(), llama_architecture()], ids=["gpt", "llama"])
def test_every_attention_and_feed_forward_matrix_moves_the_score(a, score, term):
    for index in range(len(a.blocks)):
        for name in MATRICES:
            body = fresh_body(a, 0)
            with torch.no_grad():
                body.blocks[index].get_submodule(name).weight[-1] *= 2.0
            assert log_score(body, term) > score(a) + 1e-4, (index, name)


@pytest.mark.parametrize("part", ["queries", "keys"])
def test_queries_and_keys_move_dss_but_not_synflow(part):
    a = tiny_architecture()
    rows = slice(0, 16) if part == "queries" else slice(16, 32)
    moved = []
    for score, term in SCORES:
        body = fresh_body(a, 0)
        with torch.no_grad():
            body.blocks[0].attn.qkv.weight[rows] *= 2.0
        moved.append(log_score(body, term) != score(a))
    assert moved == [True, False]


@pytest.mark.parametrize("score", [dss, synflow])
def test_both_halves_of_a_gated_matrix_move_the_score(score):
    a, term = llama_architecture(), dict(SCORES)[score]
    for row in (0, a.blocks[0].d_ff):
        body = fresh_body(a, 0)
        with torch.no_grad():
            body.blocks[0].ffn.up.weight[row] *= 2.0
        assert log_score(body, term) > score(a)


@pytest.mark.parametrize("score", [dss, synflow])
def test_the_same_seed_gives_the_same_score_and_torch_generator_stays(score):
    a = tiny_architecture()
    before = torch.random.get_rng_state()
    assert score(a, seed=1) == score(a, seed=1) != score(a, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("score", [dss, synflow])
@pytest.mark.parametrize("a", [*FAMILIES, *extremes(spaces.get("tiny"))])
def test_scores_are_positive_and_finite(a, score):
    assert 0.0 < score(a) < math.inf


@pytest.mark.slow
def test_the_largest_member_of_the_paper_space_has_scores():
    smallest, largest = extremes(spaces.get("paper"))
    for score in (dss, synflow):
        assert 0.0 < score(smallest) < score(largest) < math.inf


@pytest.mark.parametrize("score", [dss, synflow])
def test_a_decoder_too_deep_for_float64_still_has_a_score(score):
    deep = tiny_architecture(blocks=(BlockSpec(128, 4, 4, 512, depth=200),))
    assert math.log(sys.float_info.max) < score(deep) < math.inf


@pytest.mark.parametrize("score", [dss, synflow])
def test_scores_grow_with_depth_and_with_width(score):
    depths = [score(tiny_architecture(blocks=(BlockSpec(64, 2, 2, 64, n),))) for n in (1, 2, 4, 8)]
    widths = [score(tiny_architecture(blocks=(BlockSpec(n, 2, 2, n, 2),))) for n in (32, 64, 128)]
    assert depths == sorted(set(depths))
    assert widths == sorted(set(widths))


@pytest.mark.parametrize("score", [dss, synflow])
def test_the_vocabulary_and_the_context_do_not_matter(score):
    a = tiny_architecture()
    assert score(a) == score(a.replace(vocab_size=50257, max_seq_len=1024))
