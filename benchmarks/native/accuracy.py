"""What the native decoder's precisions cost: perplexity of a text, against torch in float32.

The one idea: the same windows of the same text through torch and through bundles of the same
weights, so that the only differences are the rounding of weights, of activations and of the cache.
Windows do not see each other; the first token of each is not predicted. Each bundle's ratio to
torch comes with the spread of the windows' own ratios: what chance could do.

Example:
  merino-edge build --target nano-cpu --precision fp32 --context 512 smollm2/ -o fp32/
  merino-edge build --target nano-cpu --precision int4 --context 512 smollm2/ -o int4/
  python benchmarks/native/accuracy.py smollm2/ fp32/ int4/ --text wiki.test.tokens
"""

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from accuracy_report import SCHEMA, Found, Report, markdown
from reports import new_parser, provenance, results_folder, run_script

from merino_edge.cli.options import positive_int
from merino_edge.cli.output import Progress
from merino_edge.errors import UsageError
from merino_edge.formats.bundle import Bundle
from merino_edge.model.checkpoint import Checkpoint, load_checkpoint, read_text
from merino_edge.model.transformer import load_model
from merino_edge.runtime import load
from merino_edge.runtime.tokenizer import Tokenizer
from merino_edge.training.shards import sha256_of_text

Score = Callable[[list[int]], np.ndarray]  # ids [n] -> log-likelihoods [n - 1]


def main() -> None:
    """Measure, save, print."""
    parser = new_parser(__doc__, results_folder(__file__) / "accuracy.json")
    parser.add_argument("checkpoint", help="the weights that the bundles were made from")
    parser.add_argument("bundles", nargs="+", help="bundles with a file for the native decoder")
    parser.add_argument("--text", required=True, metavar="FILE", help="what perplexity is of")
    parser.add_argument("--tokens", type=positive_int, help="from its beginning (all)")
    parser.add_argument("--window", type=positive_int, default=512, help="(512)")
    parser.add_argument("--threads", type=positive_int, default=2, help="(2)")
    parser.add_argument("--backend", default="native", help="(native)")
    run_script(parser, SCHEMA, measure, markdown)


def measure(options: argparse.Namespace) -> Report:
    """The report for the options of the command line."""
    begun = provenance(("numpy", "torch", "tokenizers"))
    torch.set_num_threads(options.threads)
    checkpoint = load_checkpoint(options.checkpoint)
    windows = _windows(checkpoint, options)
    progress = Progress("accuracy", plain_every_s=30)
    expected = _scores("torch float32", _torch_score(checkpoint), windows, progress)
    found = [Found("torch float32", "", _perplexity(expected), 1.0, 0.0)]
    for path in options.bundles:
        bundle = Bundle.open(path)
        how = f"{options.backend} {bundle.manifest.precision}"
        with load(path, options.backend, options.threads) as session:
            scores = _scores(how, session.score, windows, progress)
        found.append(_against(expected, scores, how, bundle.bundle_id))
        progress.done(f"{how}: {found[-1].ratio:.5f} x the perplexity of torch")
    n_tokens = len(windows) * options.window
    text = read_text(options.text)
    facts = (os.path.basename(options.text), sha256_of_text(text), n_tokens, options.window)
    return Report(begun, os.path.basename(os.path.abspath(options.checkpoint)), *facts, found)


def _windows(checkpoint: Checkpoint, options: argparse.Namespace) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(checkpoint.tokenizer_path)
    ids = tokenizer.encode(read_text(options.text))[: options.tokens]
    starts = range(0, len(ids) - options.window + 1, options.window)
    if not starts:
        raise UsageError(f"the text has {len(ids)} tokens, a window {options.window}.")
    return [ids[start : start + options.window] for start in starts]


def _torch_score(checkpoint: Checkpoint) -> Score:
    model = load_model(checkpoint.info.architecture, checkpoint.tensors())

    @torch.no_grad()
    def score(ids: list[int]) -> np.ndarray:
        likely = torch.log_softmax(model(torch.tensor([ids]))[0, :-1], dim=-1)
        chosen: np.ndarray = likely.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()
        return chosen

    return score


def _scores(how: str, score: Score, windows: list[list[int]], progress: Progress) -> np.ndarray:
    """Mean log-likelihood of each window's tokens."""
    means = []
    for i, window in enumerate(windows):
        progress.update(f"{how}: window {i + 1} of {len(windows)}")
        means.append(score(window).mean())
    return np.array(means)


def _perplexity(scores: np.ndarray) -> float:
    return math.exp(-scores.mean())


def _against(expected: np.ndarray, scores: np.ndarray, how: str, bundle: str) -> Found:
    lost = expected - scores
    ratio = math.exp(lost.mean())
    error = float(lost.std(ddof=1) / math.sqrt(len(lost))) if len(lost) > 1 else 0.0
    return Found(how, bundle, _perplexity(scores), ratio, ratio * error)


if __name__ == "__main__":
    main()
