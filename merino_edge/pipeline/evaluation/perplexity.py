"""Perplexity of a text, in each of the conventions that people quote, by name.

The one idea: there is one number, the text's total log-likelihood; conventions differ in what they
divide it by, and in how much of the text stands before each token. The second changes the number
itself: ``context_len`` and ``stride`` say it (``requests.windows``), and a figure without them
means nothing. The first is arithmetic, and all are given:

=====================  ============================================================
token_perplexity       by the model's tokens: depends on the tokenizer
word_perplexity        by words between blanks, as lm-evaluation-harness counts them
word_perplexity_eos    by words and line ends, as word-level models count them, whose
                       ``<eos>`` at a line's end is a word that they predict
byte_perplexity        by UTF-8 bytes
bits_per_byte          by bytes, base 2: compares across tokenizers
=====================  ============================================================

The text is the file as it is: one text, not split into articles, with its ``<unk>`` and `` @-@ ``.
Standard errors are the windows': how much the ratio of sums would vary had we drawn other windows.
"""

import math
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from merino_edge.errors import FormatError, UsageError
from merino_edge.formats.bundle import sha256_of
from merino_edge.pipeline.evaluation.requests import Request, Score, windows
from merino_edge.pipeline.evaluation.results import Item, Metric
from merino_edge.pipeline.evaluation.scored_model import ScoredModel

TEXTS = {
    "wikitext2": "lm/wikitext-2/wiki.test.tokens",
    "wikitext2_valid": "lm/wikitext-2/wiki.valid.tokens",
    "ptb": "lm/ptb/ptb.test.txt",
    "ptb_valid": "lm/ptb/ptb.valid.txt",
}
DEFAULT_CONTEXT = 1024  # or the model's, where that is less


class TextTask:
    """A text, ready to be scored.

    Args:
        name: Of ``TEXTS``, or of a file.
        path: The file.
        model: Encodes.
        files: Its name and SHA-256.
        context_len: Tokens that the model reads at once; None for 1024, or the model's.
        stride: Tokens a window predicts; None for ``context_len``.
        limit: Take the first so many windows; None for all.

    Attributes:
        requests: What to score, a window each.

    Raises:
        UsageError: A context or stride that cannot be.
        FormatError: The file is missing, empty, or not UTF-8.
    """

    n_truncated = 0

    def __init__(
        self,
        name: str,
        path: str,
        model: ScoredModel,
        files: dict[str, str],
        context_len: int | None = None,
        stride: int | None = None,
        limit: int | None = None,
    ):
        self.name, self.files = name, files
        most = model.scorer.context_len
        length = min(context_len or DEFAULT_CONTEXT, most)
        stride = stride or length
        if stride > length:
            raise UsageError(f"--stride {stride} is longer than the context, {length} tokens.")
        text = read_text(path)
        ids = model.tokenizer.encode(text)
        found = list(windows(ids, model.prefix_token_id, length, stride))
        self.requests: list[Request] = found[:limit]
        self.n_items, self.n_items_in_all = len(self.requests), len(found)
        self.items: list[Item] = []
        n_tokens = sum(len(request.continuation) for request in self.requests)
        whole = n_tokens == len(ids)
        read = text if whole else model.tokenizer.decode(ids[:n_tokens], skip_special=False)
        self._counts = counts(read, n_tokens)
        self.settings: dict[str, Any] = {
            "context_len": length,
            "stride": stride,
            "prefix_token_id": model.prefix_token_id,
            **{"n_" + unit: n for unit, n in self._counts.items()},
        }
        self.how = _how(model.prefix_token_id, length, stride)

    def finish(self, scores: Sequence[Score]) -> dict[str, Metric]:
        """Metrics, from a score for each window; ``items`` is filled."""
        likely = np.array([score.log_likelihood for score in scores])
        sizes = np.array([len(request.continuation) for request in self.requests])
        self.items = [Item(self.name, i, [x], 0, {}) for i, x in enumerate(likely.tolist())]
        return metrics(likely, sizes, self._counts)


def _how(prefix_token_id: int, length: int, stride: int) -> str:
    """How the text was read, for people."""
    laid = f"each token but the first window's has {length - stride} or more before it"
    if stride == length:
        laid = "end to end, as loglikelihood_rolling does"
    return (
        f"the file as one text, after token {prefix_token_id}; windows of {length} tokens, "
        f"stride {stride}: {laid}"
    )


def counts(text: str, n_tokens: int) -> dict[str, int]:
    """What a text's log-likelihood may be divided by."""
    words = text.split()
    return {
        "tokens": n_tokens,
        "words": max(1, len(re.split(r"\s+", text))),  # an empty one at each end counts, as there
        "words_eos": max(1, len(words) + text.count("\n")),
        "bytes": len(text.encode("utf-8")),
    }


def metrics(likely: np.ndarray, sizes: np.ndarray, counted: dict[str, int]) -> dict[str, Metric]:
    """All conventions.

    Args:
        likely: Log-likelihood of each window [n].
        sizes: Tokens that each predicts [n].
        counted: Of ``counts``.
    """
    nats = -float(likely.sum())
    n_tokens = counted["tokens"]
    error = _loss_error(likely, sizes)  # of the nats a token
    found = {}
    for name, unit in (
        ("token_perplexity", "tokens"),
        ("word_perplexity", "words"),
        ("word_perplexity_eos", "words_eos"),
        ("byte_perplexity", "bytes"),
    ):
        value = _exp(nats / counted[unit])
        scale = n_tokens / counted[unit]
        found[name] = Metric(value, None if error is None else value * error * scale)
    scale = n_tokens / counted["bytes"] / math.log(2)
    found["bits_per_byte"] = Metric(
        nats / n_tokens * scale, None if error is None else error * scale
    )
    return found


def _loss_error(likely: np.ndarray, sizes: np.ndarray) -> float | None:
    """Standard error of sum(-likely) / sum(sizes), a ratio over windows; None for one window."""
    n = len(likely)
    if n < 2:
        return None
    rest = -likely - sizes * (-likely.sum() / sizes.sum())
    return float(math.sqrt(n / (n - 1) * (rest @ rest)) / sizes.sum())


def _exp(loss: float) -> float:
    return math.exp(min(loss, 700.0))  # an untrained model's words; JSON has no infinity


def read_text(path: str) -> str:
    """A text file; its line ends stay as they are.

    Raises:
        FormatError: Missing, empty, or not UTF-8.
    """
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            text = stream.read()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FormatError(
            "the file does not exist.", path, hint="--data names the folder that holds lm/."
        ) from error
    except UnicodeDecodeError as error:
        raise FormatError(f"not UTF-8 at byte {error.start}.", path) from error
    if not text.strip():
        raise FormatError("the file is empty: there is nothing to predict.", path)
    return text


def text_files(name: str, data: str) -> tuple[str, dict[str, str]]:
    """Path of a text of ``TEXTS``, and its SHA-256."""
    path = os.path.join(data, TEXTS[name])
    read_text(path)
    return path, {TEXTS[name]: sha256_of(path)}
