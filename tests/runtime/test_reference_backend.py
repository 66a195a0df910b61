"""The numpy decoder against an independent, scalar one, and against the promises of the seam."""

import math

import numpy as np
import pytest
from doubles import (
    edit_manifest,
    llama_architecture,
    random_tensors,
    tiny_architecture,
    tiny_bundle,
)
from model_families import FAMILIES, MIXTURES

from merino_edge.errors import FormatError, SessionError
from merino_edge.formats.architecture import BlockSpec
from merino_edge.formats.bundle import Bundle
from merino_edge.runtime.backends.reference import ReferenceBackend, decoder_logits

IDS = [5, 17, 299, 0, 5]


def narrow_embedding():
    return tiny_architecture(d_embed=8, tie_embeddings=False, activation="relu")


ARCHITECTURES = {
    "merino": tiny_architecture,
    "llama": llama_architecture,
    "narrow embedding, own head": narrow_embedding,
    "tanh gelu, no biases": lambda: tiny_architecture(
        activation="gelu_tanh", attention_bias=False, ffn_bias=False
    ),
}
ARCHITECTURES.update({n: lambda a=a: a for n, a in {**FAMILIES, **MIXTURES}.items()})


@pytest.fixture
def backend(tmp_path):
    return ReferenceBackend(Bundle.open(tiny_bundle(tmp_path / "bundle")))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_logits_equal_those_of_plain_python_loops(name):
    a = ARCHITECTURES[name]()
    w = random_tensors(a, seed=3)
    expected = scalar_decoder(a, w, IDS)
    got = decoder_logits(a, w, np.array(IDS), len(IDS))
    # float32 against float64 arithmetic, logits of order 1
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_float64_agrees_with_plain_loops_to_rounding():
    a = llama_architecture()
    w = random_tensors(a, seed=4)
    wide = {name: t.astype(np.float64) for name, t in w.items()}
    got = decoder_logits(a, wide, np.array(IDS), 1)
    np.testing.assert_allclose(got[0], scalar_decoder(a, w, IDS)[-1], rtol=1e-6)  # cast to float32


def test_prefill_gives_the_last_row_or_all_rows(backend):
    rows = backend.prefill(IDS, all_logits=True).copy()
    backend.reset()
    last = backend.prefill(IDS)
    assert rows.shape == (5, 300)
    assert last.shape == (1, 300)
    assert rows.dtype == last.dtype == np.float32
    np.testing.assert_allclose(last[0], rows[-1], rtol=1e-5, atol=1e-6)


def test_later_tokens_do_not_change_earlier_rows(backend):
    before = backend.prefill(IDS[:3], all_logits=True).copy()
    backend.reset()
    after = backend.prefill(IDS, all_logits=True)[:3]
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("ids", "words"),
    [([], "non-empty"), ([1.5], "whole numbers"), ([300], "token 300"), ([-1], "token -1")],
)
def test_bad_token_ids_are_refused_and_change_nothing(backend, ids, words):
    with pytest.raises(SessionError, match=words):
        backend.prefill(ids)
    assert backend.position == 0


def test_a_full_context_is_refused_with_both_numbers(backend):
    backend.prefill([1] * 48)
    with pytest.raises(SessionError, match="48 of 48"):
        backend.decode(1)
    assert backend.position == 48


def test_decode_refuses_a_token_outside_the_vocabulary(backend):
    with pytest.raises(SessionError, match="token 300 is outside the vocabulary of 300"):
        backend.decode(300)


def test_a_closed_backend_refuses_everything_but_close(backend):
    backend.close()
    backend.close()
    for call in (lambda: backend.prefill([1]), lambda: backend.decode(1), backend.reset):
        with pytest.raises(SessionError, match="closed"):
            call()


def test_weights_of_another_architecture_are_refused(tmp_path):
    other = tiny_architecture(blocks=(BlockSpec(16, 2, 2, 32, 2), BlockSpec(24, 2, 2, 44, 1)))
    path = tiny_bundle(tmp_path / "bundle")
    edit_manifest(path, architecture=other)
    with pytest.raises(FormatError, match=r"blocks.1.ffn.up.weight: shape is \(40, 24\)"):
        ReferenceBackend(Bundle.open(path))


def scalar_decoder(a, w, ids):
    """The decoder written as loops over Python floats; shares nothing with the numpy one."""
    w = {name: t.astype(np.float64).tolist() for name, t in w.items()}
    xs = [list(w["embed.weight"][i]) for i in ids]
    for b, block in enumerate(a.blocks):
        p = f"blocks.{b}."
        if p + "joint.weight" in w:
            xs = [_matvec(w[p + "joint.weight"], x) for x in xs]
        if b == 0 and a.position == "learned":
            xs = [_add(x, w["pos_embed.weight"][t]) for t, x in enumerate(xs)]
        for i in range(block.depth):
            xs = _scalar_layer(a, w, p, block, f"{p}norms.{i}.", xs)
    if a.final_norm:
        xs = [_norm(a, w, "final_norm", x) for x in xs]
    if "head_joint.weight" in w:
        xs = [_matvec(w["head_joint.weight"], x) for x in xs]
    return np.array([_matvec(w.get("head.weight", w["embed.weight"]), x) for x in xs])


def _scalar_layer(a, w, p, block, n, xs):
    """Each formula as its family's paper has it."""

    def normed(kind, rows):
        return [_norm(a, w, n + kind, row) for row in rows]

    def attend(rows):
        return _attend(a, w, p, block, rows)

    def feed(rows):
        return [_feed(a, w, p, block, row) for row in rows]

    def add(first, second):
        return [_add(x, y) for x, y in zip(first, second)]

    if a.parallel_residual:
        return add(xs, add(attend(normed("attn", xs)), feed(normed("ffn", xs))))
    if a.norm_place == "post":
        xs = normed("attn", add(xs, attend(xs)))
        return normed("ffn", add(xs, feed(xs)))
    xs = add(xs, attend(normed("attn", xs)))
    return add(xs, feed(normed("ffn", xs)))


def _matvec(matrix, x, bias=None):
    y = [math.fsum(m * v for m, v in zip(row, x)) for row in matrix]
    return _add(y, bias) if bias else y


def _add(x, y):
    return [a + b for a, b in zip(x, y)]


def _norm(a, w, name, x):
    mean = sum(x) / len(x) if a.norm == "layernorm" else 0.0
    power = sum((v - mean) ** 2 for v in x) / len(x)
    shift = w.get(name + ".bias", [0.0] * len(x))
    scale = w[name + ".weight"]
    return [(v - mean) / math.sqrt(power + a.norm_eps) * s + b for v, s, b in zip(x, scale, shift)]


def _attend(a, w, p, block, hs):
    d, n_head, n_kv = block.head_dim, block.n_head, block.n_kv_head
    qkv = [_matvec(w[p + "attn.qkv.weight"], h, w.get(p + "attn.qkv.bias")) for h in hs]

    def head(t, index):
        values = qkv[t][index * d : (index + 1) * d]
        rotated = a.position == "rope" and index < n_head + n_kv
        if not rotated:
            return values
        n = round(d * a.rope_fraction)
        return _turn(values[:n], t, a.rope_base) + values[n:]

    outs = []
    for t in range(len(hs)):
        joined = []
        for h in range(n_head):
            kv = h // (n_head // n_kv)
            q = head(t, h)
            scores = [
                sum(x * y for x, y in zip(q, head(s, n_head + kv))) / math.sqrt(d)
                for s in range(t + 1)
            ]
            weights = [math.exp(s) for s in scores]
            values = [head(s, n_head + n_kv + kv) for s in range(t + 1)]
            joined += [
                sum(wt * v[j] for wt, v in zip(weights, values)) / sum(weights) for j in range(d)
            ]
        outs.append(_matvec(w[p + "attn.out.weight"], joined, w.get(p + "attn.out.bias")))
    return outs


def _turn(x, t, base):
    half = len(x) // 2
    y = [0.0] * len(x)
    for j in range(half):
        z = complex(x[j], x[j + half]) * complex(
            math.cos(t * base ** (-2.0 * j / len(x))), math.sin(t * base ** (-2.0 * j / len(x)))
        )
        y[j], y[j + half] = z.real, z.imag
    return y


def _feed(a, w, p, block, h):
    up = _matvec(w[p + "ffn.up.weight"], h, w.get(p + "ffn.up.bias"))
    act = {
        "relu": lambda v: max(v, 0.0),
        "silu": lambda v: v / (1 + math.exp(-v)),
        "gelu": lambda v: 0.5 * v * math.erfc(-v / math.sqrt(2)),
        "gelu_tanh": lambda v: (
            v / (1 + math.exp(-2 * math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))
        ),
    }[a.activation]
    if a.gated_ffn:
        up = [act(g) * u for g, u in zip(up[: block.d_ff], up[block.d_ff :])]
    else:
        up = [act(v) for v in up]
    return _matvec(w[p + "ffn.down.weight"], up, w.get(p + "ffn.down.bias"))
