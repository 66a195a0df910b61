"""Token ids to text while they arrive: never half a character, never a part of a stop string.

The one idea: hold back what may still change. A character may be spread over several tokens, and
until its last byte is there it decodes to U+FFFD; so trailing U+FFFD wait. A stop string may have
begun; so the longest tail that is the beginning of one waits too. All that was given out, joined,
is exactly what decoding everything at once would give, up to the stop.

The cost of a token does not grow with the text: only a short window of tokens is decoded again.
This module knows neither models nor `tokenizers`: it is given a ``decode`` function.
"""

from typing import Callable, List, Sequence, Tuple

REPLACEMENT = "\ufffd"
MAX_WINDOW = 32
# Whatever they read before, two UTF-8 decoders agree again after at most 3 bytes; a token of text
# is a byte or more, so a window cut down to 8 tokens decodes its end as the whole text would.
KEPT_TOKENS = 8
MAX_PARTIAL = 3  # bytes, hence U+FFFD, that an unfinished character can show

Decode = Callable[[List[int]], str]


class Detokenizer:
    """Text of a growing list of tokens, in pieces of whole characters."""

    def __init__(self, decode: Decode):
        self._decode = decode
        self._window = []  # type: List[int]
        self._n_given = 0  # characters of the window's text that were given out

    def push(self, token_id: int) -> str:
        """The characters that became certain with this token; often one word, sometimes none."""
        self._window.append(token_id)
        text = self._decode(self._window)
        n_certain = len(text) - _n_partial(text)
        piece = text[self._n_given : n_certain]
        self._n_given = max(self._n_given, n_certain)
        if len(self._window) > MAX_WINDOW:
            self._shorten(len(text) - self._n_given)
        return piece

    def finish(self) -> str:
        """What was held back; an unfinished character comes out as U+FFFD."""
        rest = self._decode(self._window)[self._n_given :] if self._window else ""
        self._window, self._n_given = [], 0
        return rest

    def _shorten(self, n_held: int) -> None:
        self._window = self._window[-KEPT_TOKENS:]
        self._n_given = len(self._decode(self._window)) - n_held


class StopFilter:
    """Passes text on until one of the stop strings is complete.

    The stop that ends first wins, the longest of those if several end there; neither it nor what
    follows is given out. How the text is cut into pieces makes no difference.
    """

    def __init__(self, stops: Sequence[str]):
        self._stops = list(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The part of the text so far that no stop string can claim any more."""
        if self.stopped:
            return ""
        self._held += text
        found = [self._found(stop) for stop in self._stops if stop in self._held]
        if found:
            self.stopped = True
            return self._give(min(found)[1])
        return self._give(len(self._held) - self._n_maybe())

    def finish(self) -> str:
        """What was held back, when no more text comes."""
        return "" if self.stopped else self._give(len(self._held))

    def _found(self, stop: str) -> Tuple[int, int]:
        start = self._held.index(stop)
        return start + len(stop), start

    def _n_maybe(self) -> int:
        """Length of the longest tail that is the beginning of a stop string."""
        longest = max([len(stop) - 1 for stop in self._stops] or [0])
        for n in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-n:]) for stop in self._stops):
                return n
        return 0

    def _give(self, n: int) -> str:
        given, self._held = self._held[:n], self._held[n:]
        return given


class TextStream:
    """Tokens in, text out: a Detokenizer, then a StopFilter."""

    def __init__(self, decode: Decode, stops: Sequence[str] = ()):
        self._detokenizer = Detokenizer(decode)
        self._filter = StopFilter(stops)

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met."""
        return self._filter.stopped

    def push(self, token_id: int) -> str:
        """The text that became certain with this token."""
        return self._filter.push(self._detokenizer.push(token_id))

    def finish(self) -> str:
        """What was held back, when no more tokens come."""
        return self._filter.push(self._detokenizer.finish()) + self._filter.finish()


def _n_partial(text: str) -> int:
    n_trailing = len(text) - len(text.rstrip(REPLACEMENT))
    return min(n_trailing, MAX_PARTIAL)
