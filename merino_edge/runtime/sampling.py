"""From a row of logits to a token: greedy, or drawn.

Names, defaults and order are those of Hugging Face's ``generate``: repetition penalty, minimum
length, temperature, top-k, top-p, then a draw. The one idea: after the first cut only the
surviving candidates are looked at, so a draw from 50,000 words does not sort 50,000 numbers.
Randomness comes from ``numpy.random.RandomState(seed)``, whose stream is frozen: the same seed
gives the same text under numpy 1.19 on Python 3.6 and under today's.
"""

from typing import Any, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from merino_edge.errors import SessionError, SpecError
from merino_edge.formats.manifest import GenerationDefaults

FIRST_GUESS = 256  # candidates tried for top-p before all are sorted


class _Fields(NamedTuple):
    max_new_tokens: int = 64
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    eos_token_ids: Optional[Tuple[int, ...]] = None
    stop: Tuple[str, ...] = ()
    seed: int = 0


class GenerationConfig(_Fields):
    """How to continue a text; checks itself when it is made.

    Attributes:
        max_new_tokens: Most tokens to generate.
        min_new_tokens: No end-of-text token before so many.
        do_sample: Draw; False takes the most probable token, always.
        temperature: Divides the logits; below 1 is bolder, 0 means greedy.
        top_k: Draw among the k most probable; 0 for no limit.
        top_p: Draw among the smallest set with so much probability; 1 for no limit.
        repetition_penalty: Above 1 makes tokens of the prompt and the text less likely again.
        eos_token_ids: Any of them ends the text, and is not part of it; None for those of the
            bundle, () for none.
        stop: Any of these strings ends the text, and is not part of it.
        seed: Same seed, same text.

    Raises:
        SpecError: A value is out of range; the field is named.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **fields: Any) -> "GenerationConfig":
        """Make and check."""
        self = super().__new__(cls, *args, **fields)
        _check(self)
        return self

    @classmethod
    def from_defaults(cls, defaults: GenerationDefaults, **overrides: Any) -> "GenerationConfig":
        """What the model's maker recommends, changed by the caller's words.

        Raises:
            SpecError: A value is out of range, or there is no such option.
        """
        fields = {
            name: getattr(defaults, name) for name in _Fields._fields if hasattr(defaults, name)
        }
        unknown = sorted(set(overrides) - set(_Fields._fields))
        if unknown:
            raise SpecError("there is no generation option '{}'.".format(unknown[0]))
        fields.update(overrides)
        return cls(**fields)

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is taken."""
        return not self.do_sample or self.temperature == 0

    @property
    def n_deciding(self) -> int:
        """How many of the largest logits decide as well as all of them; 0 if all are needed."""
        if self.repetition_penalty != 1.0 or self.min_new_tokens > 0:
            return 0
        return 1 if self.is_greedy else self.top_k


class Sampler:
    """Picks tokens for one text; remembers which ids occurred, for the repetition penalty."""

    def __init__(self, config: GenerationConfig, vocab_size: int, prompt_ids: Sequence[int] = ()):
        self._config = config
        # greedy texts never draw, and importing numpy.random takes longer than a token
        self._rng = None if config.is_greedy else np.random.RandomState(config.seed)
        self._n_picked = 0
        self._seen = np.zeros(vocab_size, dtype=bool)
        self._seen[np.asarray(prompt_ids, dtype=np.int64)] = True
        # ids beyond the vocabulary cannot be drawn, so there is nothing to forbid
        self._eos = np.array(
            [i for i in config.eos_token_ids or () if 0 <= i < vocab_size], dtype=np.int64
        )

    def pick(self, logits: np.ndarray) -> int:
        """The next token.

        Args:
            logits: float32 [vocab_size]; not changed.

        Raises:
            SessionError: The model gave no numbers.
        """
        return self._accept(self._chosen(self._adjusted(logits)))

    def pick_among(self, ids: np.ndarray, logits: np.ndarray) -> int:
        """The next token: what ``pick`` takes from a whole row, found among its largest.

        Args:
            ids: int32 [``GenerationConfig.n_deciding``], the candidates.
            logits: float32 [n_deciding], theirs.

        Raises:
            SessionError: The model gave no numbers.
        """
        order = np.argsort(ids)  # as in a whole row, so that a seed draws the same token
        return self._accept(int(ids[order][self._chosen(logits[order])]))

    def _chosen(self, scores: np.ndarray) -> int:
        """Index of the taken score."""
        if not np.isfinite(scores.max()):  # a single NaN makes the maximum NaN
            raise SessionError(
                "the model gave {} as its largest logit.".format(scores.max()),
                hint="check the bundle with: merino-edge verify BUNDLE",
            )
        if self._rng is None:
            return int(np.argmax(scores))
        candidates, probabilities = distribution(scores, self._config)
        share = self._rng.random_sample()
        drawn = int(np.searchsorted(np.cumsum(probabilities), share, side="right"))
        return int(candidates[min(drawn, len(candidates) - 1)])

    def _accept(self, token_id: int) -> int:
        self._seen[token_id] = True
        self._n_picked += 1
        return token_id

    def _adjusted(self, logits: np.ndarray) -> np.ndarray:
        penalty = self._config.repetition_penalty
        too_short = self._n_picked < self._config.min_new_tokens and self._eos.size > 0
        if penalty == 1.0 and not too_short:
            return logits
        scores = logits.copy()
        if penalty != 1.0:
            seen = scores[self._seen]
            scores[self._seen] = np.where(seen < 0, seen * penalty, seen / penalty)
        if too_short:
            scores[self._eos] = -np.inf
        return scores  # type: ignore[no-any-return]


def distribution(scores: np.ndarray, config: GenerationConfig) -> Tuple[np.ndarray, np.ndarray]:
    """Candidates and their probabilities after temperature, top-k and top-p.

    Args:
        scores: float [vocab_size].
        config: Not greedy.

    Returns:
        ids int64 [n] and probabilities float64 [n] that sum to 1.
    """
    scaled = scores.astype(np.float64) / config.temperature
    scaled -= scaled.max()  # once: -inf would stay, and exp never overflows
    ids = _top_k(scaled, config.top_k)
    weights = np.exp(scaled[ids])
    if config.top_p < 1.0:
        kept = _top_p(weights, config.top_p)
        ids, weights = ids[kept], weights[kept]
    return ids, weights / weights.sum()


def _top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Ids of the k largest scores, ascending; where some equal the k-th, the lower ids."""
    if not 0 < k < scores.size:
        return np.arange(scores.size)
    kth = np.partition(scores, -k)[-k]
    larger, equal = np.flatnonzero(scores > kth), np.flatnonzero(scores == kth)
    return np.sort(np.concatenate([larger, equal[: k - larger.size]]))


def _top_p(weights: np.ndarray, top_p: float) -> np.ndarray:
    """Indices of the smallest set, most probable first, that holds ``top_p`` of the weight."""
    needed = top_p * weights.sum()
    n_tried = min(FIRST_GUESS, weights.size)
    largest = np.argpartition(weights, -n_tried)[-n_tried:]
    if weights[largest].sum() < needed:
        largest = np.arange(weights.size)
    order = largest[np.argsort(-weights[largest], kind="stable")]
    n_kept = int(np.searchsorted(np.cumsum(weights[order]), needed)) + 1
    return order[:n_kept]


def _check(config: GenerationConfig) -> None:
    at_least = [("max_new_tokens", 1), ("min_new_tokens", 0), ("top_k", 0), ("seed", 0)]
    for name, least in at_least:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise SpecError(
                "{} is {!r}, must be a whole number from {}.".format(name, value, least)
            )
    if not 0.0 <= config.temperature < float("inf"):
        raise SpecError("temperature is {}, must be 0 or more.".format(config.temperature))
    if not 0.0 < config.top_p <= 1.0:
        raise SpecError("top_p is {}, must be above 0 and at most 1.".format(config.top_p))
    if not 0.0 < config.repetition_penalty < float("inf"):
        raise SpecError(
            "repetition_penalty is {}, must be above 0.".format(config.repetition_penalty)
        )
    if config.seed >= 2**32:
        raise SpecError("seed is {}, must be below 2**32.".format(config.seed))
    _check_stops(config.stop)


def _check_stops(stop: Any) -> None:
    if isinstance(stop, str):
        raise SpecError("stop is {!r}, must be a list of strings.".format(stop))
    if not all(isinstance(text, str) and text for text in stop):
        raise SpecError("stop is {!r}, must hold non-empty strings.".format(list(stop)))
