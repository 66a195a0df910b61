"""Perplexity: each convention against its definition, token by token."""

import math
from pathlib import Path

import numpy as np
import pytest
from tiny_tasks import write_checkpoint, write_data

from merino_edge.errors import FormatError, SpecError, UsageError
from merino_edge.pipeline.evaluation import perplexity
from merino_edge.pipeline.evaluation.perplexity import TextTask, counts, metrics, text_files

torch = pytest.importorskip("torch")
from merino_edge.model.checkpoint import load_checkpoint  # noqa: E402
from merino_edge.model.transformer import load_model  # noqa: E402
from merino_edge.pipeline.evaluation.scored_model import open_model  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data")


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "checkpoint")


def task_of(data, checkpoint, **settings):
    model = open_model(checkpoint, threads=1)
    path, files = text_files("ptb", data)
    return model, TextTask("ptb", path, model, files, **settings)


def found(model, task):
    scores = dict(model.scorer.score(task.requests))
    return task.finish([scores[i] for i in range(len(scores))])


@torch.no_grad()
def slow_nats(checkpoint, ids, prefix, length, stride):
    """Every token from a pass of its own, with the context that its window gives it."""
    opened = load_checkpoint(checkpoint)
    model = load_model(opened.architecture, opened.tensors())
    total, text = 0.0, [prefix, *ids]
    for i in range(1, len(text)):
        # the window in which token i is predicted begins so many tokens before its last one
        last = min(length, len(ids))
        while last < i:
            last = min(last + stride, len(ids))
        first = max(0, last - length)
        row = torch.log_softmax(model(torch.tensor([text[first:i]]))[0, -1].double(), dim=-1)
        total -= float(row[text[i]])
    return total


@pytest.mark.parametrize(("length", "stride"), [(32, 32), (32, 8), (32, 1), (100, 100)])
def test_sliding_windows_are_their_slow_twin(data, checkpoint, length, stride):
    model, task = task_of(data, checkpoint, context_len=length, stride=stride, limit=None)
    path, _ = text_files("ptb", data)
    text = Path(path).read_text()
    ids = model.tokenizer.encode(text)
    nats = slow_nats(checkpoint, ids, 0, length, stride)

    got = found(model, task)
    n_bytes = len(text.encode())
    assert got["token_perplexity"].value == pytest.approx(math.exp(nats / len(ids)), rel=1e-5)
    assert got["bits_per_byte"].value == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-5)
    assert got["byte_perplexity"].value == pytest.approx(math.exp(nats / n_bytes), rel=1e-5)
    n_words = 11 * 6 + 12  # with an <eos> at the end of each of the twelve lines
    assert task.settings["n_words_eos"] == n_words
    assert got["word_perplexity_eos"].value == pytest.approx(math.exp(nats / n_words), rel=1e-5)


def test_more_context_before_each_token_is_said_in_words(data, checkpoint):
    _, apart = task_of(data, checkpoint, context_len=32)
    _, sliding = task_of(data, checkpoint, context_len=32, stride=8)
    assert "windows of 32 tokens, stride 32: end to end, as loglikelihood_rolling does" in apart.how
    assert "stride 8: each token but the first window's has 24 or more before it" in sliding.how
    assert sliding.settings["context_len"] == 32


def test_words_are_counted_as_the_harness_counts_them():
    tasks = pytest.importorskip("lm_eval.api.task")
    text = " no it was n't \n black monday \n"
    assert counts(text, 9)["words"] == tasks.PerplexityTask.count_words(text)
    assert counts(text, 9)["words_eos"] == 6 + 2
    assert counts(text, 9)["bytes"] == tasks.PerplexityTask.count_bytes(text)


def test_the_standard_error_covers_what_other_windows_would_give():
    rng = np.random.default_rng(0)
    sizes = np.full(50, 10)
    counted = {"tokens": 500, "words": 400, "words_eos": 410, "bytes": 2000}
    draws = [
        metrics(rng.normal(-30, 5, 50), sizes, counted)["token_perplexity"] for _ in range(400)
    ]
    spread = np.std([draw.value for draw in draws])
    assert np.mean([draw.stderr for draw in draws]) == pytest.approx(spread, rel=0.1)


def test_one_window_has_no_standard_error(data, checkpoint):
    model, task = task_of(data, checkpoint, context_len=128, limit=1)
    assert found(model, task)["token_perplexity"].stderr is None


def test_a_limit_counts_only_the_words_that_were_read(data, checkpoint):
    _, task = task_of(data, checkpoint, context_len=32, limit=1)
    assert task.settings["n_tokens"] == 32
    assert task.settings["n_bytes"] < 200
    assert (task.n_items, task.n_items_in_all > 1) == (1, True)


def test_a_stride_longer_than_the_context_is_refused(data, checkpoint):
    with pytest.raises(UsageError, match="--stride 64 is longer than the context, 32 tokens"):
        task_of(data, checkpoint, context_len=32, stride=64)


def test_a_model_without_first_and_last_tokens_cannot_begin_a_text(data, tmp_path):
    path = write_checkpoint(tmp_path / "nameless", eos_token_ids=[])
    with pytest.raises(SpecError, match="'nameless' names no token to begin a text with"):
        task_of(data, path)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "does not exist"), (b" \n", "is empty"), (b"\xff\xfe", "not UTF-8 at byte 0")],
)
def test_a_text_that_cannot_be_read_is_one_error(data, content, words):
    path = Path(data, perplexity.TEXTS["ptb"])
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FormatError, match=words):
        text_files("ptb", data)
