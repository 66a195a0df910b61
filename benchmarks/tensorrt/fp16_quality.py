"""What half precision costs a real model: perplexity, greedy tokens, ranges of activations.

The one idea: one model in two bundles, float32 for a host and half precision for TensorRT, over the
same text and prompts; whatever differs is the price of the precision. Measured twice:

*ONNX Runtime on x86* computes half-precision nodes in float32 and rounds their results: every
tensor of the graph is in half precision, but the sums inside a product are not. *Half sums*
(half_sums.py) is an emulation that rounds after every addition, all along a product's depth: the
worst that a board's kernel may do. The board itself lies between the two, and is not measured here.

Perplexity is that of windows that do not see each other. Greedy tokens of ONNX Runtime are decoded
one by one; those of the emulation are judged in one pass over float32's continuation: as long as
its best token, given that prefix, is the one that follows, its own decoding would be the same.
Ranges come from a float32 twin of the half-precision graph (merino_edge/export/range_check.py).

Example:
  merino-edge build --target host --context 512 smollm2/ -o fp32/
  merino-edge build --target nano --context 512 smollm2/ -o fp16/
  python benchmarks/tensorrt/fp16_quality.py fp32/ fp16/ --text wiki.test.tokens
"""

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "common"))  # where ``reports`` lies

from fp16_quality_report import (  # noqa: E402
    SCHEMA,
    Continuation,
    Perplexity,
    Quality,
    Ranges,
    Report,
    Setting,
    markdown,
)
from half_sums import HalfSums  # noqa: E402
from reports import new_parser, provenance, results_folder, run_script  # noqa: E402

from merino_edge.cli.options import positive_int  # noqa: E402
from merino_edge.cli.output import Progress  # noqa: E402
from merino_edge.errors import UsageError  # noqa: E402
from merino_edge.export.range_check import check_ranges  # noqa: E402
from merino_edge.formats.bundle import Bundle  # noqa: E402
from merino_edge.model.checkpoint import read_text  # noqa: E402
from merino_edge.runtime import GenerationConfig, GenerationSession, load  # noqa: E402
from merino_edge.training.shards import sha256_of_text  # noqa: E402

PROMPTS = tuple((HERE / "prompts.txt").read_text("utf-8").splitlines())
BYTES_PER_TOKEN = 16  # more than any text has: enough is read, and not the whole file
# ids of prompt and float32's continuation -> tokens that half precision would continue with
Continue = Callable[[list[int], list[int]], list[int]]


def main() -> None:
    """Measure, save, print."""
    parser = new_parser(__doc__, results_folder(__file__) / "fp16_quality.json")
    parser.add_argument("fp32", help="bundle of the target 'host'")
    parser.add_argument("fp16", help="bundle of the target 'nano' with the same weights")
    parser.add_argument("--text", required=True, metavar="FILE", help="what perplexity is of")
    parser.add_argument("--tokens", type=positive_int, default=4096, help="(4096)")
    parser.add_argument("--window", type=positive_int, default=512, help="(512)")
    parser.add_argument("--new-tokens", type=positive_int, default=64, help="for a prompt (64)")
    parser.add_argument("--threads", type=positive_int, default=2, help="(2)")
    parser.add_argument("--no-emulation", action="store_true", help="leave out the slow half")
    run_script(parser, SCHEMA, measure, markdown)


def measure(options: argparse.Namespace) -> Report:
    """The report for the options of the command line."""
    found = provenance(("numpy", "onnx", "onnxruntime", "tokenizers"))
    progress = Progress("fp16", plain_every_s=30)
    half = _half_of(options)
    with load(options.fp32, "ort", options.threads) as wide:
        setting, ids = _setting(options, wide, half)
        trial = Trial(wide, ids, options, progress)
        with load(options.fp16, "ort", options.threads) as session:
            runtime = trial.quality("ONNX Runtime on x86", session, _decoding(session))
        emulation = None
        if not options.no_emulation:
            session = GenerationSession(HalfSums(half), wide.tokenizer, half.manifest)
            emulation = trial.quality("half sums, emulated", session, _judging(session))
        fp32 = trial.fp32
    ranges = check_ranges(half, ids, progress.update, options.threads)
    counts = len(ranges.ranges), len(ranges.errors), len(ranges.warnings)
    return Report(found, setting, fp32, runtime, emulation, Ranges(*counts, ranges.worst(10)))


def _half_of(options: argparse.Namespace) -> Bundle:
    wide, half = Bundle.open(options.fp32), Bundle.open(options.fp16)
    precisions = (wide.manifest.precision, half.manifest.precision)
    if precisions != ("fp32", "fp16"):
        raise UsageError(f"the bundles are {' and '.join(precisions)}, not fp32 and fp16.")
    if wide.manifest.architecture != half.manifest.architecture:
        raise UsageError("the two bundles hold different models.")
    return half


def _setting(
    options: argparse.Namespace, wide: GenerationSession, half: Bundle
) -> tuple[Setting, list[int]]:
    """What is run, and the tokens of the text."""
    text = read_text(options.text)[: options.tokens * BYTES_PER_TOKEN]
    ids = wide.encode_prompt(text)[: options.tokens]
    if len(ids) < options.tokens or options.window > wide.context_len:
        raise UsageError(
            f"the text has {len(ids)} tokens of {options.tokens}, "
            f"the context holds {wide.context_len} of {options.window}."
        )
    bundles = (wide.manifest.name, Bundle.open(options.fp32).bundle_id, half.bundle_id)
    facts = (os.path.basename(options.text), sha256_of_text(text), len(ids))
    return Setting(*bundles, *facts, options.window, options.new_tokens, options.threads), ids


class Trial:
    """Everything that half precision is held against: float32's scores and continuations."""

    def __init__(
        self,
        wide: GenerationSession,
        ids: list[int],
        options: argparse.Namespace,
        progress: Progress,
    ):
        self._wide, self._progress = wide, progress
        self._windows = [ids[i : i + options.window] for i in range(0, len(ids), options.window)]
        self.fp32 = self._perplexity("float32", wide, None)
        decode = _decoding(wide)
        self._expected = []
        for prompt in PROMPTS:
            progress.update(f"float32: {prompt!r}")
            prompt_ids = wide.encode_prompt(prompt)
            answer = decode(prompt_ids, [0] * options.new_tokens)
            self._expected.append((prompt, prompt_ids, answer))

    def quality(self, how: str, session: GenerationSession, proceed: Continue) -> Quality:
        """Perplexity and continuations of a session in half precision."""
        perplexity = self._perplexity(how, session, self.fp32.value)
        continuations = list(self._continuations(how, proceed))
        n_equal = sum(found.margin is None for found in continuations)
        self._progress.done(f"{how}: perplexity {perplexity.value:.4f}, {n_equal} prompts equal")
        return Quality(how, perplexity, n_equal, continuations)

    def _perplexity(self, how: str, session: GenerationSession, fp32: float | None) -> Perplexity:
        scores = []
        for i, window in enumerate(self._windows):
            self._progress.update(f"{how}: window {i + 1} of {len(self._windows)}")
            scores.append(session.score(window))
        value = _perplexity(np.concatenate(scores))
        change = 0.0 if fp32 is None else value / fp32 - 1.0
        return Perplexity(value, change, [_perplexity(part) for part in scores])

    def _continuations(self, how: str, proceed: Continue) -> Iterator[Continuation]:
        for prompt, ids, expected in self._expected:
            self._progress.update(f"{how}: {prompt!r}")
            chosen = proceed(ids, expected)
            pairs = zip(expected, chosen, strict=True)
            step = next((i for i, (one, other) in enumerate(pairs) if one != other), None)
            if step is None:
                yield Continuation(prompt, len(expected))
            else:
                prefix = ids + expected[:step]
                yield self._parting(prompt, step, prefix, (expected[step], chosen[step]))

    def _parting(
        self, prompt: str, step: int, prefix: list[int], tokens: tuple[int, int]
    ) -> Continuation:
        """How near float32 was to choosing as half precision did."""
        self._wide.reset()
        logits = self._wide.prefill(prefix)
        margin = float(logits[tokens[0]] - logits[tokens[1]])
        assert self._wide.tokenizer is not None
        texts = [self._wide.tokenizer.decode([token], skip_special=False) for token in tokens]
        share = margin / float(np.abs(logits).max())
        return Continuation(prompt, step, texts[0], texts[1], margin, share)


def _decoding(session: GenerationSession) -> Continue:
    """Decode as many tokens as are expected, whatever they are."""

    def decode(ids: list[int], expected: list[int]) -> list[int]:
        config = GenerationConfig(max_new_tokens=len(expected), eos_token_ids=[])
        return list(session.generate(ids, config))

    return decode


def _judging(session: GenerationSession) -> Continue:
    """The best token after each prefix of what is expected, in one pass."""

    def judge(ids: list[int], expected: list[int]) -> list[int]:
        session.reset()
        logits = session.backend.prefill(ids + expected[:-1], all_logits=True)
        return [int(token) for token in np.argmax(logits[len(ids) - 1 :], axis=1)]

    return judge


def _perplexity(scores: np.ndarray) -> float:
    return math.exp(-float(scores.mean()))


if __name__ == "__main__":
    main()
