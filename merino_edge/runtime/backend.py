"""The seam between generation and whatever runs the model.

A backend takes token ids and gives logits; its cache is its own business. The one idea: what every
backend must refuse (a full context, a token outside the vocabulary, use after close) is checked
here, once, so that a new backend is one method, ``_forward``, and cannot forget a check. Because
``position`` moves only after ``_forward`` has returned, an interrupted call leaves the session as
it was: rows written beyond ``position`` are simply written again.

This module knows no model, no library and no text.
"""

from typing import Any, Sequence, Tuple, Union

import numpy as np

from merino_edge.errors import SessionError

TokenIds = Union[Sequence[int], np.ndarray]


class Backend:
    """Base of all backends. Subclasses implement ``_forward``, and ``_release`` to free things.

    Attributes:
        name: What ``--backend`` calls it.
        description: One line: library, version, threads.
        context_len: Tokens that fit.
        vocab_size: Logits per row.
        position: Tokens in the cache.
        sums_in_half: Whether sums inside a matrix product may be rounded to half precision.
        n_best: The most logits that ``decode_best`` gives; 0 for a backend without it.
        kv_cache_bytes: What the cache occupies, allocated once; 0 for a backend without one.
    """

    name = "none"
    n_best = 0
    sums_in_half = False

    def __init__(self, context_len: int, vocab_size: int, kv_cache_bytes: int, description: str):
        self.context_len = context_len
        self.vocab_size = vocab_size
        self.kv_cache_bytes = kv_cache_bytes
        self.description = description
        self.position = 0
        self._closed = False
        self._one_id = np.zeros(
            1, dtype=np.int32
        )  # decode() reuses it: nothing allocated per token

    def prefill(self, input_ids: TokenIds, all_logits: bool = False) -> np.ndarray:
        """Append tokens at the current position; call again for the next chunk.

        Args:
            input_ids: Token ids [n], n at least 1.
            all_logits: Give a row for every token instead of the last one.

        Returns:
            float32 [n or 1, vocab_size], valid until the next call.

        Raises:
            SessionError: They do not fit, an id is not in the vocabulary, or the backend is closed.
        """
        ids = self._checked_ids(input_ids)
        self._check_room(ids.size)
        logits = self._forward(ids, all_logits)
        self.position += ids.size
        return logits

    def decode(self, token_id: int) -> np.ndarray:
        """Append one token.

        Returns:
            float32 [vocab_size], valid until the next call.

        Raises:
            SessionError: As ``prefill``.
        """
        logits = self._forward(self._checked_id(token_id), False)
        self.position += 1
        return logits[0]  # type: ignore[no-any-return]

    def decode_best(self, token_id: int, k: int = 1) -> Tuple[np.ndarray, np.ndarray]:
        """Append one token, where ``n_best`` is not 0: tens of bytes instead of a vocabulary.

        Args:
            token_id: The token.
            k: How many logits, at most ``n_best``.

        Returns:
            ids int32 [k] and their logits float32 [k], the largest first, the lower id first among
            equals; valid until the next call.

        Raises:
            SessionError: As ``prefill``, or the backend does not give so many.
        """
        if not 0 < k <= self.n_best:
            raise SessionError(
                "{} best logits were asked for, this backend gives up to {}.".format(k, self.n_best)
            )
        best = self._forward_best(self._checked_id(token_id), k)
        self.position += 1
        return best

    def reset(self) -> None:
        """Forget everything; the next token is the first. Costs nothing, frees nothing.

        Raises:
            SessionError: The backend is closed.
        """
        self._check_open()
        self.position = 0

    def rewind(self, position: int) -> None:
        """Forget what comes after the first ``position`` tokens: a text has several ends.

        Costs nothing: rows beyond ``position`` are written again.

        Raises:
            SessionError: It holds fewer tokens, or is closed.
        """
        self._check_open()
        if not 0 <= position <= self.position:
            raise SessionError(
                "the context holds {} tokens, it cannot go back to {}.".format(
                    self.position, position
                )
            )
        self.position = position

    def close(self) -> None:
        """Free what the backend holds. Closing twice is allowed."""
        if not self._closed:
            self._closed = True
            self._release()

    def _forward(self, input_ids: np.ndarray, all_logits: bool) -> np.ndarray:
        """Run checked ids int32 [n] at ``self.position``; give float32 [n or 1, vocab_size]."""
        raise NotImplementedError

    def _forward_best(self, input_ids: np.ndarray, k: int) -> Tuple[np.ndarray, np.ndarray]:
        """As ``_forward`` for one id; gives ids and logits of the k best."""
        raise NotImplementedError

    def _release(self) -> None:
        """Drop buffers and handles."""

    def _checked_ids(self, input_ids: TokenIds) -> np.ndarray:
        self._check_open()
        ids = np.asarray(input_ids)
        if ids.ndim != 1 or not ids.size or ids.dtype.kind not in "iu":
            raise SessionError(
                "token ids must be a non-empty list of whole numbers, got shape {} of {}.".format(
                    ids.shape, ids.dtype
                )
            )
        outside = ids[(ids < 0) | (ids >= self.vocab_size)]
        if outside.size:
            raise self._bad_token(outside[0])
        return np.ascontiguousarray(ids, dtype=np.int32)

    def _checked_id(self, token_id: int) -> np.ndarray:
        self._check_open()
        if not 0 <= token_id < self.vocab_size:
            raise self._bad_token(token_id)
        self._check_room(1)
        self._one_id[0] = token_id
        return self._one_id

    def _check_room(self, n_new: int) -> None:
        if self.position + n_new > self.context_len:
            raise SessionError(
                "the context is full: {} of {} positions are used, {} more asked for.".format(
                    self.position, self.context_len, n_new
                ),
                hint="call reset(), send a shorter text, or build with a longer --context.",
            )

    def _bad_token(self, token_id: Any) -> SessionError:
        return SessionError(
            "token {} is outside the vocabulary of {}.".format(token_id, self.vocab_size),
            hint="use the tokenizer of this bundle.",
        )

    def _check_open(self) -> None:
        if self._closed:
            raise SessionError("the session is closed.", hint="open it again with load(path).")
