"""Does a backend compute what the bundle promises? Golden tokens and logits, on any machine.

The one idea: two independent truths travel with every bundle. The golden prompts carry the
greedy tokens that the workstation's model gave; and the numpy reference recomputes logits
from the stored weights with no cache and no graph. A backend must agree with both.
"""

from typing import Callable, List, NamedTuple, Sequence

import numpy as np

from merino_edge.errors import ParityError
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.manifest import GoldenPrompt
from merino_edge.runtime.backend import Backend
from merino_edge.runtime.backends.reference import ReferenceBackend

# Measured as a share of the largest logit (x86, ONNX Runtime 1.32 against numpy): 5e-7 to 2e-6 when
# all is right, for SmolLM2's 30 layers and for tiny models; 5e-3 to 1 when one row of keys is
# lost, positions are off by one, or the sentinel row is not hidden.
FP32_TOLERANCE = 2e-4
# Half precision, ONNX Runtime with float32 sums: 1.6e-3 against float32 weights for SmolLM2, 1.4e-2
# at most for tiny random decoders.
# Whole numbers: the native decoder also rounds activations to int8, the reference does not.
# Measured against the same rounded weights: 0.04 (int8) and 0.06 (int4) for SmolLM2, 0.02 to 0.06
# for tiny decoders, 0.13 once. A float32 bundle goes the same way through the cache and is held
# tightly.
TOLERANCES = {"fp32": FP32_TOLERANCE, "fp16": 2e-2, "int8": 0.2, "int4": 0.2}
# A GPU may also round the sums inside a product to half. Emulated for SmolLM2 (every addition
# rounded, benchmarks/tensorrt/half_sums.py): 1.7e-2 to 4.8e-2, and every clear golden token right.
HALF_SUMS_TOLERANCE = 1e-1
_HINT = "build the bundle again; if it persists, this backend computes wrongly here."
REFERENCE_TOKENS = 48  # enough to pass a chunk border, short enough for a board's CPU


class Agreement(NamedTuple):
    """How two ways of computing the same logits compare.

    Attributes:
        n_rows: Positions compared.
        max_abs_diff: Largest difference of a logit.
        scale: Largest absolute logit, at least 1.
    """

    n_rows: int
    max_abs_diff: float
    scale: float

    @property
    def relative(self) -> float:
        """The difference as a share of the largest logit."""
        return self.max_abs_diff / self.scale


def check_golden_tokens(backend: Backend, golden: Sequence[GoldenPrompt]) -> int:
    """Follow every golden text; returns how many of its clear tokens were the greedy choice.

    By induction this is greedy decoding, but for the steps where two tokens are nearly equal.

    Raises:
        ParityError: Names the prompt, the step and both tokens.
    """
    agreed = 0
    for prompt in golden:
        backend.reset()
        logits = backend.prefill(prompt.input_ids)[0]
        for step, expected in enumerate(prompt.output_ids):
            token = int(np.argmax(logits))
            is_clear = step not in prompt.unclear
            if is_clear and token != expected:
                raise ParityError(
                    "token {} of golden prompt {!r} is {}, it should be {}.".format(
                        step, prompt.prompt, token, expected
                    ),
                    step=step,
                    note="backend '{}': {}.".format(backend.name, backend.description),
                    hint=_HINT,
                )
            agreed += is_clear
            if step + 1 < len(prompt.output_ids):
                logits = backend.decode(expected)
    backend.reset()
    return agreed


def compare_logits(
    backend: Backend,
    expected_logits: Callable[[List[int]], np.ndarray],
    golden: Sequence[GoldenPrompt],
    precision: str = "fp32",
) -> Agreement:
    """Compare all logits of prompt and answer, fed in uneven chunks and then token by token.

    Args:
        backend: What is checked.
        expected_logits: ids -> [n, vocab_size], computed another way.
        golden: Where the sequences come from.
        precision: Of the bundle: it decides what is tolerated.

    Raises:
        ParityError: With the difference and the position.
    """
    total, tolerance = Agreement(0, 0.0, 1.0), TOLERANCES[precision]
    if backend.sums_in_half:
        tolerance = max(tolerance, HALF_SUMS_TOLERANCE)
    for prompt in golden:
        ids = (prompt.input_ids + prompt.output_ids)[:REFERENCE_TOKENS]
        expected = expected_logits(ids)
        actual = _chunked_logits(backend, ids)
        difference = np.abs(actual - expected).max(axis=1)
        scale = max(1.0, float(np.abs(expected).max()))
        _check(backend, prompt, difference, scale, tolerance)
        total = Agreement(
            total.n_rows + len(ids),
            max(total.max_abs_diff, float(difference.max())),
            max(total.scale, scale),
        )
    return total


def reference_logits(bundle: Bundle) -> Callable[[List[int]], np.ndarray]:
    """All logits of a sequence, by the numpy reference."""
    backend = ReferenceBackend(bundle)

    def logits(ids: List[int]) -> np.ndarray:
        backend.reset()
        return np.array(backend.prefill(ids, all_logits=True))

    return logits


def _chunked_logits(backend: Backend, ids: List[int]) -> np.ndarray:
    """Thirds: one chunk, another chunk, then single tokens, so that every path is on trial."""
    backend.reset()
    third = max(1, len(ids) // 3)
    rows = [np.array(backend.prefill(ids[:third], all_logits=True))]
    if len(ids) > third:
        rows.append(np.array(backend.prefill(ids[third : 2 * third], all_logits=True)))
    for token in ids[2 * third :]:
        rows.append(np.array(backend.decode(token))[None])
    backend.reset()
    return np.concatenate(rows)


def _check(
    backend: Backend,
    prompt: GoldenPrompt,
    difference: np.ndarray,
    scale: float,
    tolerance: float,
) -> None:
    worst = int(difference.argmax())
    if np.isfinite(difference).all() and difference[worst] <= tolerance * scale:
        return
    raise ParityError(
        "logits at position {} of {!r} differ by {:.3g}, allowed is {:.3g}.".format(
            worst, prompt.prompt, float(difference[worst]), tolerance * scale
        ),
        max_abs_diff=float(difference[worst]),
        tolerance=tolerance * scale,
        step=worst,
        note="backend '{}': {}.".format(backend.name, backend.description),
        hint=_HINT,
    )
