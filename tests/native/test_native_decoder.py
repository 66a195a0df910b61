"""The C core gives the logits of the numpy reference, token by token and in chunks."""

import ctypes as c
import struct

import numpy as np
import pytest
from doubles import llama_architecture, random_tensors, tiny_architecture
from model_families import FAMILIES, MIXTURES
from native_core import F32, Q4, Q8, Session, dequantised, kind_of, pack

from merino_edge.formats.architecture import BlockSpec
from merino_edge.runtime.backends import reference
from merino_edge.runtime.backends.reference import decoder_logits

KERNELS = ["plain", "avx2", "avx512vnni"]
IDS = np.random.RandomState(5).randint(0, 300, 40)
SAMPLE_ARGUMENTS = [c.c_void_p, c.c_float, c.c_uint32, c.c_float, c.c_void_p, c.c_void_p]
LONG = llama_architecture(
    blocks=(BlockSpec(32, 4, 1, 72, 2), BlockSpec(48, 2, 2, 100, 2)), max_seq_len=300
)
LONG_IDS = np.random.RandomState(6).randint(0, 300, 290)
ARCHITECTURES = {
    "merino": tiny_architecture(),
    "narrow_relu": tiny_architecture(activation="relu", d_embed=12, tie_embeddings=True),
    "untied": tiny_architecture(activation="gelu_tanh", tie_embeddings=False),
    "rope": tiny_architecture(position="rope", d_embed=20, attention_bias=False),
    "two_head_dims": llama_architecture(
        blocks=(BlockSpec(32, 4, 1, 72, 2), BlockSpec(48, 2, 2, 100, 2))
    ),
    **FAMILIES,
    **MIXTURES,
}


@pytest.fixture(params=KERNELS)
def kernels(library, request):
    if library.me_use_kernels(request.param.encode()) != 0:
        pytest.skip(f"this processor has no {request.param}")
    yield request.param
    library.me_use_kernels(None)


def packed(path, architecture, kind):
    """Write a model; gives its path, and the tensors that it stands for, in float64."""
    tensors = random_tensors(architecture, 3)
    path = path / "model.merino"
    path.write_bytes(pack(architecture, tensors, kind))
    meant = {n: dequantised(t, kind_of(n, t.shape, kind)) for n, t in tensors.items()}
    return path, {name: tensor.astype(np.float64) for name, tensor in meant.items()}


class RoundsItsInput(np.ndarray):
    """A matrix that takes its other factor in int8, 32 values a scale, as the core does."""

    def __rmatmul__(self, x):
        padded = np.pad(x.astype(np.float32), ((0, 0), (0, -x.shape[1] % 32)))
        blocks = padded.reshape(len(x), -1, 32)
        scale = np.abs(blocks).max(axis=2, keepdims=True) / 127
        rounded = np.rint(blocks / np.where(scale == 0, 1, scale)) * scale
        return rounded.reshape(len(x), -1)[:, : x.shape[1]] @ np.asarray(self)

    def __getitem__(self, index):
        return np.asarray(self)[index]


@pytest.fixture
def half_cache(monkeypatch):
    """The reference keeps keys and values in float16, as the core does with whole numbers."""
    monkeypatch.setattr(reference, "_attend", with_half_cache(reference._attend))


def with_half_cache(attend):
    def attend_halfs(q, k, v):
        return attend(q, k.astype(np.float16).astype(q.dtype), v.astype(np.float16).astype(q.dtype))

    return attend_halfs


def with_rounded_inputs(tensors):
    return {
        name: tensor.view(RoundsItsInput)
        if tensor.ndim == 2 and "pos_embed" not in name
        else tensor
        for name, tensor in tensors.items()
    }


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_float32_logits_equal_the_references(tmp_path, library, kernels, name):
    a = ARCHITECTURES[name]
    path, tensors = packed(tmp_path, a, F32)
    expected = decoder_logits(a, tensors, IDS, len(IDS))
    session = Session(library, path, a.max_seq_len)
    by_chunk = session.prefill(IDS, len(IDS), a.vocab_size)
    library.me_reset(session.session)
    by_step = np.array([session.step(token, a.vocab_size) for token in IDS])
    session.close()
    # against float64: what single precision loses over three layers
    assert relative_error(by_chunk, expected) < 1e-5
    assert relative_error(by_step, expected) < 1e-5


@pytest.mark.parametrize("kind", [Q8, Q4], ids=["q8", "q4"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_quantised_logits_equal_the_references_with_rounded_activations(
    tmp_path, library, kernels, half_cache, name, kind
):
    a = ARCHITECTURES[name]
    path, tensors = packed(tmp_path, a, kind)
    expected = decoder_logits(a, with_rounded_inputs(tensors), IDS, len(IDS))
    session = Session(library, path, a.max_seq_len)
    found = session.prefill(IDS, len(IDS), a.vocab_size)
    session.close()
    errors = np.abs(found - expected).max(axis=1) / np.abs(expected).max()
    # an activation on the border of two integers may fall to either side: 1/127 of a block's
    # largest value in one channel. Most tokens meet none.
    assert np.median(errors) < 1e-5
    assert errors.max() < 0.02


@pytest.mark.parametrize("kind", [F32, Q8], ids=["f32", "q8"])
@pytest.mark.parametrize("n_kept", [0, 1, len(IDS) // 2, len(IDS)])
def test_a_text_that_goes_back_continues_as_if_nothing_had_followed(
    tmp_path, library, half_cache, kind, n_kept
):
    a = ARCHITECTURES["merino"]
    path, _ = packed(tmp_path, a, kind)
    session = Session(library, path, a.max_seq_len)
    fresh = Session(library, path, a.max_seq_len)
    session.prefill(IDS, 1, a.vocab_size)
    assert library.me_rewind(session.session, n_kept) == 0
    assert library.me_best(session.session, 1, None, None) != 0  # of which text, it cannot say
    if n_kept:
        fresh.prefill(IDS[:n_kept], 1, a.vocab_size)
    other = (IDS[0] + 1) % a.vocab_size
    assert (session.step(other, a.vocab_size) == fresh.step(other, a.vocab_size)).all()
    assert library.me_rewind(session.session, n_kept + 2) != 0
    assert library.me_position(session.session) == n_kept + 1
    session.close()
    fresh.close()


def opened(library, path, data):
    """What the core says to a file: "" if it opens."""
    path.write_bytes(data)
    model, message = c.c_void_p(), c.create_string_buffer(200)
    if library.me_open(str(path).encode(), c.byref(model), message, 200) == 0:
        library.me_close(model)
    return message.value.decode()


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (7, 4, "version 2 to 3"),
        (7, 2, "version 2 does not know"),
        (112, 2, "norm_place"),
        (116, 2, "no_final_norm"),
        (116, 0, "tensor"),  # then there is a norm more than in the table
        (120, 1, "parallel_residual"),  # and norms behind
        (124, 1, "config"),
        (156, 3, "n_rotated"),
        (156, 8, "n_rotated"),  # the whole head is written as 0
        (84, 0, "n_rotated"),  # learned positions turn nothing
    ],
)
def test_the_core_refuses_what_no_version_has(tmp_path, library, place, value, words):
    a = tiny_architecture(
        norm_place="post", final_norm=False, position="rope", rope_fraction=0.5, max_seq_len=300
    )
    data = bytearray(pack(a, random_tensors(a, 3), F32))
    assert opened(library, tmp_path / "model.merino", data) == ""
    assert struct.unpack_from("<I", data, 156) == (4,)

    data[place] = value  # the other bytes of a word are zero

    assert words in opened(library, tmp_path / "model.merino", data)


def test_a_past_of_several_segments_is_one_softmax(tmp_path, library, kernels):
    a = LONG
    path, tensors = packed(tmp_path, a, F32)
    expected = decoder_logits(a, tensors, LONG_IDS, len(LONG_IDS))
    session = Session(library, path, a.max_seq_len)
    found = session.prefill(LONG_IDS, len(LONG_IDS), a.vocab_size)
    session.close()
    assert relative_error(found, expected) < 1e-5


@pytest.mark.parametrize("kind", [F32, Q8, Q4], ids=["f32", "q8", "q4"])
@pytest.mark.parametrize("name", ["llama", "opt-350m", "pythia", *MIXTURES])
def test_threads_and_chunks_do_not_change_a_logit(tmp_path, library, name, kind):
    """Around 128 and 256 positions, too, where a token's past gets another segment."""
    a, n = LONG if name == "llama" else ARCHITECTURES[name].replace(max_seq_len=300), len(LONG_IDS)
    path, _ = packed(tmp_path, a, kind)
    alone, three = Session(library, path, n), Session(library, path, n, n_threads=3)
    expected = alone.prefill(LONG_IDS, n, a.vocab_size)
    found = list(three.prefill(LONG_IDS[:5], 5, a.vocab_size))
    for begin, end in [(5, 120), (140, 250)]:
        found += list(three.prefill(LONG_IDS[begin:end], end - begin, a.vocab_size))
        found += [three.step(token, a.vocab_size) for token in LONG_IDS[end : end + 20]]
    alone.close()
    three.close()
    assert np.array_equal(found, expected[: len(found)])


def test_best_gives_the_largest_logits_in_order(tmp_path, library):
    a = ARCHITECTURES["merino"]
    path, _ = packed(tmp_path, a, F32)
    session = Session(library, path, 48)
    logits = session.prefill(IDS, 1, a.vocab_size)[0]
    ids, best = np.zeros(7, np.int32), np.zeros(7, np.float32)
    assert library.me_best(session.session, 7, ids.ctypes.data, best.ctypes.data) == 0
    session.close()
    assert ids.tolist() == np.argsort(-logits, kind="stable")[:7].tolist()
    assert best.tolist() == logits[ids].tolist()


def test_what_cannot_be_is_refused_and_changes_nothing(tmp_path, library):
    a = ARCHITECTURES["merino"]
    path, _ = packed(tmp_path, a, F32)
    session = Session(library, path, 20)
    ids = IDS.astype(np.int32)
    full, argument = 5, 4
    assert library.me_best(session.session, 1, ids.ctypes.data, None) == argument
    assert library.me_prefill(session.session, ids.ctypes.data, 21, 0, None) == full
    assert library.me_prefill(session.session, ids.ctypes.data, 4, 5, None) == argument
    assert library.me_step(session.session, 300, None) == argument
    assert library.me_step(session.session, -1, None) == argument
    token, state, sample = c.c_int32(), c.byref(c.c_uint64()), library.me_sample
    sample.argtypes = SAMPLE_ARGUMENTS
    for temperature, top_k, top_p in [(1, 1, 1), (-1, 1, 1), (float("nan"), 1, 1), (1, 0, 1)]:
        assert sample(session.session, temperature, top_k, top_p, state, c.byref(token)) == argument
    assert library.me_position(session.session) == 0
    assert library.me_prefill(session.session, ids.ctypes.data, 20, 0, None) == 0
    assert library.me_step(session.session, 1, None) == full
    assert library.me_session_bytes(session.model, 49, 1) == 0  # max_seq_len is 48
    assert library.me_session_bytes(session.model, 48, 1) > 0
    session.close()


def sampled(library, session, temperature, top_k, top_p, n, seed=1):
    """The ids of n draws from the same logits."""
    state, token = c.c_uint64(seed), c.c_int32()
    library.me_sample.argtypes = SAMPLE_ARGUMENTS
    ids = []
    for _ in range(n):
        arguments = (session.session, temperature, top_k, top_p, c.byref(state), c.byref(token))
        assert library.me_sample(*arguments) == 0
        ids.append(token.value)
    return ids


def test_samples_are_as_frequent_as_they_are_likely(tmp_path, library):
    a, n = ARCHITECTURES["merino"], 20000
    path, _ = packed(tmp_path, a, F32)
    session = Session(library, path, 48)
    logits = session.prefill(IDS, 1, a.vocab_size)[0].astype(np.float64)
    order = np.argsort(-logits, kind="stable")
    weights = np.exp(logits[order[:20]] / 0.5 - logits[order[0]] / 0.5)
    kept = np.searchsorted(np.cumsum(weights) / weights.sum(), 0.8) + 1
    expected = weights[:kept] / weights[:kept].sum()

    ids = sampled(library, session, 0.5, 20, 0.8, n)

    assert set(ids) == set(order[:kept].tolist())
    found = np.array([ids.count(token) for token in order[:kept]]) / n
    assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / n)  # four standard errors
    assert sampled(library, session, 0.5, 20, 0.8, 50) == ids[:50]
    assert set(sampled(library, session, 0.0, 20, 0.8, 5)) == {order[0]}
    assert set(sampled(library, session, 9.0, 1, 1.0, 5)) == {order[0]}
    session.close()
