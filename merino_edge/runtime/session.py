"""A bundle that is loaded and ready: prompt in, tokens or text out.

The one idea: ``prefill`` and ``step`` are the bare machine (they append to what is there), while
``generate``, ``stream``, ``chat`` and ``score`` take a whole text and begin it afresh, so a used
session gives what a new one would. This module knows backends only by their seam.

::

    with load("bundle/") as session:
        for piece in session.stream("The sheep", GenerationConfig(max_new_tokens=32)):
            print(piece, end="", flush=True)
"""

import functools
from typing import Any, Dict, Iterator, List, Optional, Sequence, Union

import numpy as np

from merino_edge.errors import MissingDependencyError, SessionError, UnsupportedError
from merino_edge.formats.manifest import BundleManifest
from merino_edge.runtime.backend import Backend, TokenIds
from merino_edge.runtime.generation import Cancel, Generation
from merino_edge.runtime.sampling import GenerationConfig
from merino_edge.runtime.text_stream import TextStream
from merino_edge.runtime.tokenizer import Tokenizer

DEFAULT_CHUNK = 128  # tokens per prefill call: bounds the activations, and how long a cancel waits
Prompt = Union[str, Sequence[int]]


class GenerationSession:
    """Generates with one backend; not for two threads at once.

    Attributes:
        backend: What runs the model.
        tokenizer: Text to ids and back; None where `tokenizers` is missing.
        manifest: What the bundle says.
        last: The most recent Generation: its ``finish_reason`` and ``timings``.
    """

    def __init__(self, backend: Backend, tokenizer: Optional[Tokenizer], manifest: BundleManifest):
        self.backend = backend
        self.tokenizer = tokenizer
        self.manifest = manifest
        self.last = None  # type: Optional[Generation]

    @property
    def position(self) -> int:
        """Tokens in the context."""
        return self.backend.position

    @property
    def context_len(self) -> int:
        """Tokens that fit."""
        return self.backend.context_len

    @property
    def finish_reason(self) -> Optional[str]:
        """How the last generation ended; None while it runs, or before any."""
        return self.last.finish_reason if self.last else None

    def prefill(self, ids: TokenIds, chunk: int = DEFAULT_CHUNK) -> np.ndarray:
        """Append tokens, at most ``chunk`` in a call of the backend.

        Returns:
            Logits after the last token, float32 [vocab_size], valid until the next call.

        Raises:
            SessionError: They do not fit (nothing is appended then), or an id is unknown.
        """
        self._check_fits(len(ids), self.position)
        for part in _chunks(ids, chunk):
            logits = self.backend.prefill(part)
        return logits[0]  # type: ignore[no-any-return]

    def step(self, token_id: int) -> np.ndarray:
        """Append one token; logits as ``prefill`` gives them."""
        return self.backend.decode(token_id)

    def generate(
        self,
        prompt: Prompt,
        config: Optional[GenerationConfig] = None,
        cancel: Optional[Cancel] = None,
    ) -> Generation:
        """Begin a text afresh and continue it, token by token.

        Args:
            prompt: Text, or token ids that are used as they are.
            config: How; None for what the bundle recommends.
            cancel: Asked before every step; True ends with finish_reason "cancelled".

        Returns:
            An iterator of token ids; an end token is not among them.

        Raises:
            SessionError: The prompt is empty or does not fit; both numbers are given.
            MissingDependencyError: Text or stop strings, and no `tokenizers`.
            UnsupportedError: Text, and a bundle without a tokenizer.
        """
        config = config or GenerationConfig.from_defaults(self.manifest.generation)
        if config.eos_token_ids is None:
            config = config._replace(eos_token_ids=tuple(self.manifest.generation.eos_token_ids))
        ids = self.encode_prompt(prompt) if isinstance(prompt, str) else [int(i) for i in prompt]
        if config.stop:
            self._need_tokenizer()
        self.reset()
        self._check_fits(len(ids), 0)
        text = TextStream(self.tokenizer.decode, config.stop) if self.tokenizer else None
        prefill = functools.partial(self._prefill_until, ids, cancel)
        self.last = Generation(self.backend, ids, config, prefill, text, cancel)
        return self.last

    def stream(
        self,
        prompt: Prompt,
        config: Optional[GenerationConfig] = None,
        cancel: Optional[Cancel] = None,
    ) -> Iterator[str]:
        """As ``generate``, in pieces of text: whole characters, no part of a stop string."""
        self._need_tokenizer()
        return self.generate(prompt, config, cancel).pieces()

    def chat(
        self,
        messages: List[Dict[str, str]],
        config: Optional[GenerationConfig] = None,
        cancel: Optional[Cancel] = None,
    ) -> Iterator[str]:
        """Answer a conversation of {"role", "content"} messages, in pieces of text.

        Raises:
            UnsupportedError: The bundle does not say how a conversation is written.
            SessionError: It has no such role.
        """
        return self.stream(self.chat_prompt(messages), config, cancel)

    def chat_prompt(self, messages: List[Dict[str, str]]) -> str:
        """The conversation as the one text that the model was trained to continue."""
        if self.manifest.chat is None:
            raise UnsupportedError(
                "'{}' is a plain language model: it has no chat format.".format(self.manifest.name),
                hint="give it a text to continue: merino-edge run BUNDLE --prompt TEXT",
            )
        try:
            return self.manifest.chat.render(messages)
        except ValueError as error:
            raise SessionError("a message cannot be written: {}.".format(error))

    def encode_prompt(self, text: str) -> List[int]:
        """Token ids of a text, with the model's first token before it if it wants one."""
        ids = self._need_tokenizer().encode(text)
        bos = self.manifest.generation.bos_token_id
        return ids if bos is None or ids[:1] == [bos] else [bos] + ids

    def score(self, ids: Sequence[int], chunk: int = DEFAULT_CHUNK) -> np.ndarray:
        """Log-likelihood of each token but the first, given those before it.

        Args:
            ids: Token ids [n]; the session begins afresh with them.
            chunk: Tokens per call; a chunk's logits take chunk * vocab_size * 4 bytes.

        Returns:
            float64 [n - 1], natural logarithms.
        """
        self.reset()
        self._check_fits(len(ids), 0)
        targets = np.asarray(ids, dtype=np.int64)[1:]
        scores = np.empty(len(targets))
        for part in _chunks(ids, chunk):
            first = self.position
            rows = self.backend.prefill(part, all_logits=True)
            wanted = targets[first : first + len(rows)]
            scores[first : first + len(wanted)] = log_likelihoods(rows[: len(wanted)], wanted)
        return scores

    def reset(self) -> None:
        """Forget the context; the next token is the first."""
        self.backend.reset()

    def close(self) -> None:
        """Free the backend. Closing twice is allowed; anything else afterwards is refused."""
        self.backend.close()

    def __enter__(self) -> "GenerationSession":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def _prefill_until(self, ids: List[int], cancel: Optional[Cancel]) -> Optional[np.ndarray]:
        for part in _chunks(ids, DEFAULT_CHUNK):
            if cancel is not None and cancel():
                return None
            logits = self.backend.prefill(part)
        return logits[0]  # type: ignore[no-any-return]

    def _check_fits(self, n_ids: int, n_before: int) -> None:
        if n_ids < 1:
            raise SessionError("the prompt is empty.", hint="give at least one token.")
        if n_before + n_ids > self.context_len:
            used = ", {} of them used".format(n_before) if n_before else ""
            raise SessionError(
                "the prompt has {} tokens, the context holds {}{}.".format(
                    n_ids, self.context_len, used
                ),
                note="bundle '{}' was built for {} tokens.".format(
                    self.manifest.name, self.manifest.kv_cache.context_len
                ),
                hint="shorten the prompt, or build the bundle with a longer --context.",
            )

    def _need_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            if all(entry.role != "tokenizer" for entry in self.manifest.files.values()):
                raise UnsupportedError(
                    "bundle '{}' holds no tokenizer: it takes token ids only.".format(
                        self.manifest.name
                    ),
                    hint="build from a checkpoint for text; time this one with merino-edge bench.",
                )
            raise MissingDependencyError(
                "tokenizers",
                "turning text into tokens",
                "pip install tokenizers, or give token ids instead of text.",
            )
        return self.tokenizer


def _chunks(ids: TokenIds, chunk: int) -> Iterator[TokenIds]:
    if chunk < 1:
        raise SessionError("chunk is {}, must be at least 1.".format(chunk))
    return (ids[start : start + chunk] for start in range(0, len(ids), chunk))


def log_likelihoods(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """log softmax [n, V] at the targets [n]; float64 for the sum over the vocabulary."""
    largest = logits.max(axis=-1)
    total = np.exp(logits - largest[:, None]).sum(axis=-1, dtype=np.float64)
    return logits[np.arange(len(targets)), targets] - largest - np.log(total)  # type: ignore[no-any-return]
