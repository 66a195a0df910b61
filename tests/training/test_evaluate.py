"""Evaluation predicts every token once, and its figures are what their names say."""

import math

import numpy as np
import pytest

from merino_edge.errors import SpecError

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def model(architecture):
    from merino_edge.model.transformer import new_model

    return new_model(architecture, seed=0)


def slow_loss(model, tokens, seq_len):
    """The same by one plain loop: (summed nats, tokens)."""
    import torch

    total, count = 0.0, 0
    for start in range(0, len(tokens) - 1, seq_len):
        window = torch.from_numpy(tokens[start : start + seq_len + 1].astype(np.int64))
        with torch.no_grad():
            log_p = torch.log_softmax(model(window[None, :-1])[0], dim=-1)
        total -= float(log_p[range(len(window) - 1), window[1:]].sum())
        count += len(window) - 1
    return total, count


@pytest.mark.parametrize("n_tokens", [2, 16, 17, 18, 150])
def test_every_token_but_the_first_is_predicted_once(model, n_tokens):
    from merino_edge.training.evaluate import evaluate

    tokens = np.random.default_rng(0).integers(0, 320, n_tokens).astype(np.uint16)
    total, count = slow_loss(model, tokens, 16)
    found = evaluate(model, tokens, seq_len=16)
    assert found.n_tokens == count == n_tokens - 1
    assert found.loss == pytest.approx(total / count, rel=1e-5)  # float32 sums in another order


def test_a_part_is_spread_over_the_whole(model):
    from merino_edge.training.evaluate import evaluate

    tokens = np.zeros(16 * 40 + 1, dtype=np.uint16)
    assert evaluate(model, tokens, seq_len=16, max_tokens=16 * 10).n_tokens == 16 * 10


def test_an_untrained_model_is_about_as_good_as_guessing(model):
    from merino_edge.training.evaluate import evaluate

    tokens = np.random.default_rng(0).integers(0, 320, 2000)
    found = evaluate(model, tokens, seq_len=32)
    assert found.loss == pytest.approx(math.log(320), rel=0.02)
    assert found.perplexity == pytest.approx(math.exp(found.loss))
    assert found.bits_per_byte(0.5) == pytest.approx(found.loss / math.log(2) / 2)


def test_a_text_of_one_token_is_refused(model):
    from merino_edge.training.evaluate import evaluate

    with pytest.raises(SpecError, match=r"1 token\(s\) cannot be evaluated"):
        evaluate(model, np.zeros(1, dtype=np.uint16), seq_len=8)
