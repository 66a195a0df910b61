"""The one door to `tokenizers`: text to token ids and back.

Works with version 0.12.1, the last for Python 3.6, and with current ones; the calls used here did
not change between them. Special tokens written in a text ("<|im_start|>") become their ids;
nothing is added around a text, that is the session's business. This module knows no model.
"""

import os
from typing import Any, List, Sequence

from merino_edge.errors import FormatError, MissingDependencyError


class Tokenizer:
    """A tokenizer read from ``tokenizer.json``."""

    def __init__(self, inner: Any):
        self._inner = inner

    @classmethod
    def from_file(cls, path: str) -> "Tokenizer":
        """Read a tokenizer.

        Raises:
            FormatError: No such file, or `tokenizers` cannot read it (its words are in the note).
            MissingDependencyError: `tokenizers` is not installed.
        """
        try:
            import tokenizers
        except ImportError:
            raise MissingDependencyError(
                "tokenizers", "turning text into tokens", "pip install tokenizers"
            )
        if not os.path.isfile(path):
            raise FormatError("the file does not exist.", path)
        try:
            return cls(tokenizers.Tokenizer.from_file(path))
        except Exception as error:  # tokenizers raises bare Exception, in every version
            raise FormatError(
                "tokenizers {} cannot read it.".format(tokenizers.__version__),
                path,
                note=str(error),
                hint="build the bundle again: `build` writes the form that version 0.12.1 reads.",
            )

    @property
    def vocab_size(self) -> int:
        """Ids this tokenizer can give, added tokens included."""
        return int(self._inner.get_vocab_size())

    def encode(self, text: str) -> List[int]:
        """Token ids of a text; nothing is put before or after them."""
        return list(self._inner.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of token ids; bytes that are no character become U+FFFD."""
        return str(self._inner.decode(list(ids), skip_special_tokens=skip_special))
