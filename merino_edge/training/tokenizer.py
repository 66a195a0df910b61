"""A byte-level BPE tokenizer, trained on the corpus or brought along.

The one idea: bytes are the alphabet, so every text has tokens and no text is lost. Id 0 is
``<|endoftext|>``, ids 1 to 256 are the bytes, the rest are merges in the order they were learned.
The result is the text of a ``tokenizer.json`` in the form that `tokenizers` 0.12.1, a board's
version, reads.
"""

from collections.abc import Iterable

import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from merino_edge.errors import FormatError, SpecError
from merino_edge.formats.tokenizer_file import portable_json
from merino_edge.model.checkpoint import read_text

END_OF_TEXT = "<|endoftext|>"
SMALLEST_VOCABULARY = 257  # <|endoftext|> and one token for each byte
_ENDS = (END_OF_TEXT, "</s>", "<|im_end|>", "<eos>")  # names by which other tokenizers end a text


def train_bpe(texts: Iterable[str], vocab_size: int) -> str:
    """Learn a vocabulary of exactly ``vocab_size`` tokens; returns the tokenizer.json.

    Raises:
        SpecError: Fewer than 257 are asked for, or the texts are too few to give that many.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise SpecError(
            f"vocab_size is {vocab_size}, must be at least {SMALLEST_VOCABULARY}.",
            note="256 bytes and the end of a text need a token each.",
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, _trainer(vocab_size))
    found = tokenizer.get_vocab_size()
    if found != vocab_size:
        raise SpecError(
            f"the corpus gives {found} tokens, vocab_size is {vocab_size}.",
            note="a pair of tokens is merged if it occurs at least twice.",
            hint=f"bring more text, or train with --vocab-size {found}.",
        )
    return portable_json(tokenizer.to_str())


def _trainer(vocab_size: int) -> trainers.BpeTrainer:
    return trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )


def parse_tokenizer(text: str, path: str) -> Tokenizer:
    """A tokenizer from the text of its file.

    Raises:
        FormatError: `tokenizers` cannot read it; its own words are in the note.
    """
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # tokenizers raises bare Exception
        raise FormatError(
            f"tokenizers {tokenizers.__version__} cannot read it.", path, note=str(error)
        ) from error


def read_tokenizer(path: str, vocab_size: int) -> str:
    """A tokenizer.json whose vocabulary is the architecture's, in the form that a board reads.

    Raises:
        FormatError: Not a tokenizer.
        UnsupportedError: A board's version could not read it.
        SpecError: It has another number of tokens; both are named.
    """
    text = portable_tokenizer(path)
    found = parse_tokenizer(text, path).get_vocab_size()
    if found != vocab_size:
        raise SpecError(
            f"the tokenizer has {found} tokens, the architecture {vocab_size} rows.",
            note=f"the tokenizer is '{path}'.",
            hint=f"add --vocab-size {found}, which gives the architecture as many rows.",
        )
    return text


def portable_tokenizer(path: str) -> str:
    """A tokenizer.json of any size, in the form that a board reads.

    Raises:
        FormatError: Not a tokenizer.
        UnsupportedError: A board's version could not read it.
    """
    return portable_json(read_text(path), path)


def end_of_text_id(tokenizer: Tokenizer, path: str) -> int:
    """The id that ends a text.

    Raises:
        FormatError: The tokenizer has no token by any of the names in use.
    """
    for name in _ENDS:
        found = tokenizer.token_to_id(name)
        if found is not None:
            return int(found)
    raise FormatError(f"no token ends a text; one of {', '.join(_ENDS)} is needed.", path)


def bytes_of_tokens(tokenizer: Tokenizer) -> list[int]:
    """How many bytes of text each id of a byte-level vocabulary stands for; 0 if it is no text."""
    added = tokenizer.get_added_tokens_decoder()
    lengths = []
    for number in range(tokenizer.get_vocab_size()):
        token = added.get(number)
        if token is None:
            # A character of the byte-level alphabet is one byte.
            lengths.append(len(tokenizer.id_to_token(number) or ""))
        else:
            lengths.append(0 if token.special else len(token.content.encode("utf-8")))
    return lengths


def check_ids(tokenizer: Tokenizer) -> None:
    """Refuse a vocabulary with gaps: its highest id would have no row in a model.

    Raises:
        FormatError: With both numbers.
    """
    size, highest = tokenizer.get_vocab_size(), max(tokenizer.get_vocab().values(), default=0)
    if highest >= size:
        raise FormatError(
            f"the tokenizer's highest id is {highest}, it has {size} tokens.",
            note="a model has a row for each token, numbered from 0 without a gap.",
        )
