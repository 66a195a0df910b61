"""The tokenizer inside a GGUF file, as a tokenizer.json that the board reads.

A GGUF stores the vocabulary, the merges and the *name* of the rule that splits text into words
before merging ("pre"). The rule itself is not in the file, so each supported name is written out
here; a name that is not in the table is refused, because the wrong rule gives plausible text with
other token ids than the model was trained on.

Token types: 1 ordinary, 3 control (a special token), 4 added by the user (matched before
merging, but kept when text is decoded), 5 unused.
"""

import json
from typing import Any

import numpy as np

from merino_edge.errors import FormatError, UnsupportedError
from merino_edge.formats.manifest import GenerationDefaults
from merino_edge.formats.tokenizer_file import portable_json
from merino_edge.model.importers.gguf_file import GGUFFile

_KEY = "tokenizer.ggml."
_ORDINARY, _CONTROL, _USER, _UNUSED = 1, 3, 4, 5
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
# The rule of Llama 3: contractions in any case, words with one leading sign, digits by threes.
_LLAMA_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _sequence(first: dict[str, Any], use_regex: bool) -> dict[str, Any]:
    last = {**_BYTE_LEVEL, "use_regex": use_regex}
    return {"type": "Sequence", "pretokenizers": [first, last]}


PRE_TOKENIZERS = {
    "gpt-2": {**_BYTE_LEVEL, "use_regex": True},
    "smollm": _sequence({"type": "Digits", "individual_digits": True}, use_regex=True),
    "llama-bpe": _sequence(
        {
            "type": "Split",
            "pattern": {"Regex": _LLAMA_WORDS},
            "behavior": "Isolated",
            "invert": False,
        },
        use_regex=False,
    ),
}
# llama.cpp takes a whole word from the vocabulary before it merges, for these.
_IGNORE_MERGES = ("llama-bpe",)


def tokenizer_from_gguf(file: GGUFFile, vocab_size: int) -> str:
    """The text of tokenizer.json.

    Args:
        file: The GGUF file.
        vocab_size: Rows of the embedding; there must be as many tokens.

    Raises:
        FormatError: Tokens, types or merges are missing or do not fit each other or the weights.
        UnsupportedError: Another kind of tokenizer, or a splitting rule that we do not have.
    """
    pre = _pre_tokenizer_name(file)
    tokens = file.get(_KEY + "tokens", list)
    if len(tokens) != vocab_size:
        raise FormatError(
            f"{len(tokens)} tokens, but token_embd.weight has {vocab_size} rows.",
            file.path,
            _KEY + "tokens",
            hint="the vocabulary does not belong to these weights; convert the model again.",
        )
    if len(set(tokens)) != len(tokens):
        raise FormatError("a token appears twice.", file.path, _KEY + "tokens")
    document = {
        "version": "1.0",
        "added_tokens": _added_tokens(file, tokens),
        "pre_tokenizer": PRE_TOKENIZERS[pre],
        "decoder": {**_BYTE_LEVEL, "add_prefix_space": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "ignore_merges": pre in _IGNORE_MERGES,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": file.get(_KEY + "merges", list),
        },
    }
    return portable_json(json.dumps(document), file.path)


def generation_defaults(file: GGUFFile) -> GenerationDefaults:
    """Which tokens begin and end a text.

    ``eot`` (end of turn) ends an answer as ``eos`` ends a text. The llama-bpe rule puts ``bos``
    before a prompt unless the file says otherwise; the others do not.
    """
    ends = [_token_id(file, name) for name in ("eos", "eot")]
    by_rule = file.metadata.get(_KEY + "pre") in _IGNORE_MERGES
    adds_bos = file.get(_KEY + "add_bos_token", bool, by_rule)
    return GenerationDefaults(
        eos_token_ids=list(dict.fromkeys(end for end in ends if end is not None)),
        bos_token_id=_token_id(file, "bos") if adds_bos else None,
    )


def token_text(file: GGUFFile, name: str) -> str:
    """The text of the "bos" or "eos" token; empty when there is none."""
    number = _token_id(file, name)
    return "" if number is None else file.get(_KEY + "tokens", list)[number]


def _token_id(file: GGUFFile, name: str) -> int | None:
    key = f"{_KEY}{name}_token_id"
    number = file.get(key, int, None)
    n_tokens = len(file.get(_KEY + "tokens", list))
    if number is not None and not 0 <= number < n_tokens:
        raise FormatError(f"id {number}, but there are {n_tokens} tokens.", file.path, key)
    return number


def _pre_tokenizer_name(file: GGUFFile) -> str:
    kind = file.get(_KEY + "model", str)
    if kind != "gpt2":
        raise UnsupportedError(
            f"{file.path}: the tokenizer is of the kind '{kind}'.",
            note="supported: 'gpt2' (byte-level BPE).",
        )
    if file.get(_KEY + "add_space_prefix", bool, False):
        raise UnsupportedError(f"{file.path}: {_KEY}add_space_prefix is on; not supported.")
    pre = file.get(_KEY + "pre", str, "(none)")
    if pre not in PRE_TOKENIZERS:
        raise UnsupportedError(
            f"{file.path}: the tokenizer splits text by the rule '{pre}'.",
            note=f"supported: {', '.join(sorted(PRE_TOKENIZERS))}.",
        )
    return pre


def _added_tokens(file: GGUFFile, tokens: list[str]) -> list[dict[str, Any]]:
    types = file.get(_KEY + "token_type", np.ndarray).tolist()
    if len(types) != len(tokens):
        raise FormatError(
            f"{len(types)} types for {len(tokens)} tokens.", file.path, _KEY + "token_type"
        )
    added = []
    for number, (content, kind) in enumerate(zip(tokens, types, strict=True)):
        if kind not in (_ORDINARY, _CONTROL, _USER, _UNUSED):
            raise UnsupportedError(
                f"{file.path}: the token {content!r} has the type {kind}; 1, 3, 4, 5 are supported."
            )
        if kind in (_CONTROL, _USER):
            added.append({"id": number, "content": content, "special": kind == _CONTROL})
    return added
