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
TOLERANCES = {"fp32": FP32_TOLERANCE, "fp16": 2e-2}
# A GPU may also round the sums inside a product to half. Emulated for SmolLM2 (every addition
# rounded, benchmarks/tensorrt/half_sums.py): 1.7e-2 to 4.8e-2, and every clear golden token right.
HALF_SUMS_TOLERANCE = 1e-1
# Whole numbers: backends round the other factor of every product to int8 in blocks of 32, the
# reference does not. That moves the result of one product by 0.5 % (normal random factors), and n
# products one behind the other by some sqrt(n) of it, in no direction: so what is held is the root
# mean square ``Agreement.rms``, which hardly depends on luck, and not the largest difference, which
# does. Seen on x86, native decoder and ONNX Runtime, int8 and int4: 0.032 to 0.035 for SmolLM2 over
# 384 tokens and up to 0.057 over short prompts; 0.014 for a random MeRino of 10 layers; up to 0.083
# in 270 tiny random decoders; between the two backends up to 0.057. Random decoders whose weights
# were shifted far from zero were beyond it (0.5), for both backends alike. That every stored weight
# is right is asked exactly, and elsewhere: ``whole_map.check_same_numbers``.
WHOLE_TOLERANCE = 0.12
Logits = Callable[[List[int]], np.ndarray]  # ids -> [n, vocab_size]
_HINT = "build the bundle again; if it persists, this backend computes wrongly here."
REFERENCE_TOKENS = 48  # enough to pass a chunk border, short enough for a board's CPU


class Agreement(NamedTuple):
    """How two ways of computing the same logits compare.

    Attributes:
        n_rows: Positions compared.
        max_abs_diff: Largest difference of a logit.
        scale: Largest absolute logit, at least 1.
        rms: Root mean square of the differences, as a share of that of the logits; both less the
            mean of their row, which a softmax does not see. Of the worst prompt.
    """

    n_rows: int
    max_abs_diff: float
    scale: float
    rms: float

    @property
    def relative(self) -> float:
        """The largest difference as a share of the largest logit."""
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
    expected_logits: Logits,
    golden: Sequence[GoldenPrompt],
    precision: str = "fp32",
) -> Agreement:
    """Compare all logits of prompt and answer, fed in uneven chunks and then token by token.

    Args:
        backend: What is checked.
        expected_logits: The same, computed another way.
        golden: Where the sequences come from.
        precision: Of the bundle: it decides what is tolerated.

    Raises:
        ParityError: With the difference and the position.
    """
    total = Agreement(0, 0.0, 1.0, 0.0)
    for prompt in golden:
        ids = compared_ids(prompt)
        expected = expected_logits(ids)
        difference = _chunked_logits(backend, ids) - expected
        found = _agreement(difference, expected)
        if precision in TOLERANCES:
            _check_largest(backend, prompt, np.abs(difference).max(axis=1), found, precision)
        else:
            _check_rms(backend, prompt, found)
        total = Agreement(
            total.n_rows + found.n_rows, *(max(pair) for pair in zip(total[1:], found[1:]))
        )
    return total


def compared_ids(prompt: GoldenPrompt) -> List[int]:
    """The tokens of a golden text whose logits are compared."""
    return (prompt.input_ids + prompt.output_ids)[:REFERENCE_TOKENS]


def reference_logits(bundle: Bundle) -> Logits:
    """All logits of a sequence, by the numpy reference."""
    return logits_of(ReferenceBackend(bundle))


def logits_of(backend: Backend) -> Logits:
    """All logits of a sequence, by a backend, in one prefill."""

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


def _agreement(difference: np.ndarray, expected: np.ndarray) -> Agreement:
    spread, largest = _spread(expected), float(np.abs(expected).max())
    rms = _spread(difference) / spread if spread else float("inf")
    return Agreement(len(difference), float(np.abs(difference).max()), max(1.0, largest), rms)


def _spread(rows: np.ndarray) -> float:
    """Root mean square, each row less its mean."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    return float(np.sqrt(np.mean(np.square(centred, dtype=np.float64))))


def _check_largest(
    backend: Backend,
    prompt: GoldenPrompt,
    difference: np.ndarray,
    found: Agreement,
    precision: str,
) -> None:
    tolerance = TOLERANCES[precision]
    if backend.sums_in_half:
        tolerance = max(tolerance, HALF_SUMS_TOLERANCE)
    if found.max_abs_diff <= tolerance * found.scale:  # not so for NaN
        return
    worst = int(np.nan_to_num(difference, nan=np.inf).argmax())
    raise ParityError(
        "logits at position {} of {!r} differ by {:.3g}, allowed is {:.3g}.".format(
            worst, prompt.prompt, float(difference[worst]), tolerance * found.scale
        ),
        max_abs_diff=float(difference[worst]),
        tolerance=tolerance * found.scale,
        step=worst,
        note="backend '{}': {}.".format(backend.name, backend.description),
        hint=_HINT,
    )


def _check_rms(backend: Backend, prompt: GoldenPrompt, found: Agreement) -> None:
    if found.rms <= WHOLE_TOLERANCE:
        return
    raise ParityError(
        "logits of {!r} differ by {:.3g} of their spread, allowed is {:.3g}.".format(
            prompt.prompt, found.rms, WHOLE_TOLERANCE
        ),
        max_abs_diff=found.max_abs_diff,
        note="backend '{}': {}.".format(backend.name, backend.description),
        hint=_HINT,
    )
