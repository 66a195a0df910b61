"""What a session promises, over the numpy reference, which has no cache to be wrong about."""

import numpy as np
import pytest
from doubles import edit_manifest, llama_architecture, tiny_bundle

from merino_edge.errors import (
    FormatError,
    SessionError,
    UnsupportedError,
    UsageError,
)
from merino_edge.formats.manifest import GenerationDefaults
from merino_edge.runtime import GenerationConfig, load
from merino_edge.runtime.session import GenerationSession

IDS = [5, 17, 299, 1, 5, 80, 3]
LONG = GenerationConfig(max_new_tokens=12)


@pytest.fixture(params=["merino", "llama"])
def session(request, tmp_path):
    a = llama_architecture() if request.param == "llama" else None
    with load(tiny_bundle(tmp_path / "bundle", a), backend="reference") as opened:
        yield opened


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
def test_prefill_in_chunks_then_decode_equals_one_pass(session, chunk):
    whole = session.prefill(IDS).copy()
    session.reset()
    session.prefill(IDS[:5], chunk=chunk)
    session.step(IDS[5])
    stepped = session.step(IDS[6])
    # only BLAS's choice of kernel for another number of rows differs
    np.testing.assert_allclose(stepped, whole, rtol=1e-5, atol=1e-5)
    assert session.position == 7


def test_greedy_tokens_are_those_of_argmax_by_hand(session):
    generated = list(session.generate(IDS, LONG))
    session.reset()
    by_hand = [int(session.prefill(IDS).argmax())]
    while len(by_hand) < 12:
        by_hand.append(int(session.step(by_hand[-1]).argmax()))
    assert generated == by_hand
    assert session.finish_reason == "length"


def test_a_used_session_gives_what_a_fresh_one_gives(session):
    fresh = list(session.generate(IDS, LONG))
    list(session.generate([9, 9, 9, 40], LONG))
    session.generate([1, 2, 3], LONG).__next__()  # left in the middle
    assert list(session.generate(IDS, LONG)) == fresh


def test_same_seed_same_text_and_another_seed_another(session):
    def draw(seed):
        config = GenerationConfig(max_new_tokens=16, do_sample=True, temperature=1.5, seed=seed)
        return list(session.generate(IDS, config))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_a_prompt_that_just_fits_gives_one_token(session):
    generation = session.generate([1] * 48, LONG)
    assert len(list(generation)) == 1
    assert generation.finish_reason == "length"


def test_a_prompt_one_token_too_long_is_refused_with_both_numbers(session):
    with pytest.raises(SessionError, match="49 tokens, the context holds 48") as caught:
        session.generate([1] * 49, LONG)
    assert "--context" in caught.value.hint
    with pytest.raises(SessionError, match="49 tokens"):
        session.prefill([1] * 49)
    assert session.position == 0


def test_prefill_into_a_used_context_says_how_much_is_used(session):
    session.prefill([1] * 40)
    with pytest.raises(SessionError, match="9 tokens, the context holds 48, 40 of them used"):
        session.prefill([1] * 9)
    assert session.position == 40


def test_an_empty_prompt_is_refused(session):
    with pytest.raises(SessionError, match="empty"):
        session.generate("", LONG)


def test_a_full_context_ends_the_text_with_length(session):
    generation = session.generate([1] * 40, GenerationConfig(max_new_tokens=100))
    # 40 positions, 8 decode steps, and the token that the last of them gives
    assert len(list(generation)) == 9
    assert generation.finish_reason == "length"
    assert session.position == 48


def test_an_end_token_stops_and_is_not_handed_out(session):
    tokens = list(session.generate(IDS, LONG))
    end = next(t for t in tokens if t != tokens[0])
    config = LONG.from_defaults(GenerationDefaults(eos_token_ids=[end]), max_new_tokens=12)
    assert list(session.generate(IDS, config)) == tokens[: tokens.index(end)]
    assert session.finish_reason == "stop"


def test_min_new_tokens_postpones_the_end_token(session):
    first = next(session.generate(IDS, LONG))
    fields = {"eos_token_ids": (first,), "max_new_tokens": 4}
    assert list(session.generate(IDS, GenerationConfig(**fields))) == []
    kept = list(session.generate(IDS, GenerationConfig(min_new_tokens=2, **fields)))
    assert len(kept) >= 2
    assert first not in kept


def test_streamed_text_is_the_decoded_tokens(session):
    config = GenerationConfig(max_new_tokens=30, do_sample=True, temperature=3.0, seed=5)
    tokens = list(session.generate("The sheep", config))
    assert "".join(session.stream("The sheep", config)) == session.tokenizer.decode(tokens)


def test_a_stop_string_ends_the_text_before_it(session):
    whole = "".join(session.stream("The sheep", LONG))
    stop = whole[3:6]
    config = GenerationConfig(max_new_tokens=12, stop=(stop,))
    text = "".join(session.stream("The sheep", config))
    assert text == whole[: whole.index(stop)]
    assert session.finish_reason == "stop"
    assert session.position < len(session.encode_prompt("The sheep")) + 12


def test_cancel_ends_between_two_tokens(session):
    generation = session.generate(IDS, LONG, cancel=lambda: len(generation.output_ids) == 3)
    assert len(list(generation)) == 3
    assert generation.finish_reason == "cancelled"


def test_cancel_before_the_prompt_runs_gives_nothing(session):
    generation = session.generate(IDS, LONG, cancel=lambda: True)
    assert list(generation) == []
    assert generation.finish_reason == "cancelled"
    assert session.position == 0


def test_score_gives_the_log_likelihood_of_each_next_token(session):
    expected = []
    logits = session.prefill(IDS[:1])
    for token_id in IDS[1:]:
        x = logits.astype(np.float64)
        expected.append(x[token_id] - np.log(np.exp(x).sum()))
        logits = session.step(token_id)
    for chunk in (1, 3, 7, 64):
        np.testing.assert_allclose(session.score(IDS, chunk), expected, atol=1e-5)


def test_timings_name_every_token(session):
    generation = session.generate(IDS, LONG)
    assert generation.timings.ttft_ms is None
    list(generation)
    assert generation.timings.n_prompt == 7
    assert generation.timings.ttft_ms > 0
    assert len(generation.timings.itl_ms) == 11


def test_a_closed_session_says_so(session):
    session.close()
    with pytest.raises(SessionError, match="closed"):
        session.generate(IDS, LONG)


def test_a_conversation_is_written_as_the_bundle_says(session):
    messages = [{"role": "user", "content": "Hi"}]
    assert session.chat_prompt(messages) == "[user] Hi\n[assistant] "
    assert "".join(session.chat(messages, LONG)) == "".join(
        session.stream("[user] Hi\n[assistant] ", LONG)
    )
    with pytest.raises(SessionError, match="role 'cook' is not one of"):
        session.chat([{"role": "cook", "content": "Hi"}])


def test_a_plain_language_model_refuses_to_chat(tmp_path):
    path = tiny_bundle(tmp_path / "bundle")
    edit_manifest(path, chat=None)
    with load(path, backend="reference") as session, pytest.raises(UnsupportedError, match="chat"):
        session.chat([{"role": "user", "content": "Hi"}])


def test_the_first_token_is_put_before_a_prompt_that_lacks_it(tmp_path):
    path = tiny_bundle(tmp_path / "bundle")
    edit_manifest(path, generation=GenerationDefaults(bos_token_id=0))
    with load(path, backend="reference") as session:
        plain = session.tokenizer.encode("The sheep")
        assert session.encode_prompt("The sheep") == [0] + plain
        assert session.encode_prompt("<|end|>The sheep") == [0] + plain


def test_auto_falls_back_to_the_reference_and_says_why(tmp_path):
    notes = []
    with load(tiny_bundle(tmp_path / "bundle"), on_note=notes.append) as session:
        assert session.backend.name == "reference"
    assert notes == ["backend reference (slow): the bundle holds no ONNX graph."]


def test_an_unknown_backend_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no backend 'gpu'"):
        load(tiny_bundle(tmp_path / "bundle"), backend="gpu")


def test_a_bundle_without_a_tokenizer_takes_token_ids_only(tmp_path):
    with load(tiny_bundle(tmp_path / "bundle", tokenizer=False)) as session:
        assert len(list(session.generate(IDS, LONG))) == 12
        with pytest.raises(UnsupportedError, match="holds no tokenizer"):
            session.stream("The sheep", LONG)
        with pytest.raises(UnsupportedError, match="holds no tokenizer"):
            session.generate(IDS, GenerationConfig(stop=("x",)))


def test_a_tokenizer_larger_than_the_weights_is_refused(tmp_path):
    path = tiny_bundle(tmp_path / "bundle")
    architecture = load(path).manifest.architecture.replace(vocab_size=280)
    edit_manifest(path, architecture=architecture)
    with pytest.raises(FormatError, match="tokenizer has 300 tokens, the weights only 280"):
        load(path, backend="reference")


def test_a_broken_tokenizer_is_named(tmp_path):
    path = tiny_bundle(tmp_path / "bundle")
    name = path + "/tokenizer.json"
    with open(name, "rb") as stream:
        data = stream.read()
    with open(name, "wb") as stream:  # same size, so that only reading it can tell
        stream.write(b"[" + data[1:])
    with pytest.raises(FormatError, match=r"tokenizer.json: tokenizers [0-9.]+ cannot read it"):
        load(path, backend="reference")


def test_the_session_is_made_of_parts_that_can_be_given(session):
    again = GenerationSession(session.backend, None, session.manifest)
    assert list(again.generate(IDS, LONG)) == list(session.generate(IDS, LONG))
