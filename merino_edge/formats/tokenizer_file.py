"""tokenizer.json for the oldest reader: ``tokenizers`` 0.12.1, the last for Python 3.6.

The one idea: the board's reader decides what may be written. Newer versions say the same things
in newer words (merges as pairs, a sequence of post-processors); those are translated. What the old
reader would ignore, or understand otherwise, is refused with its name, because a tokenizer that
is almost right gives a model that is quietly worse. Found by running both versions side by side:

- an added token that is not special is overlooked by 0.12.1 when the vocabulary has it too, so
  it is taken out of the vocabulary; ids beyond the vocabulary must then follow without a gap;
- ``ignore_merges`` is unknown there; it changes nothing where merges reach every token;
- ``truncation`` would cut a prompt in silence; it and ``padding`` are always dropped.

Only byte-pair models are taken. This module reads and writes JSON; it never tokenizes.
"""

import json
from typing import Any, Dict, Iterable, List, Optional, Tuple

from merino_edge.errors import FormatError, UnsupportedError

READER = "tokenizers 0.12.1"
_TOP_KEYS = ("added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model")
_MODEL_KEYS = ("unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_BYTE_LEVEL = ("add_prefix_space", "trim_offsets", "use_regex")
_PARTS = {
    "normalizer": {
        "NFC": (),
        "NFD": (),
        "NFKC": (),
        "NFKD": (),
        "Lowercase": (),
        "Replace": ("pattern", "content"),
        "Sequence": ("normalizers",),
    },
    "pre_tokenizer": {
        "ByteLevel": _BYTE_LEVEL,
        "Digits": ("individual_digits",),
        "WhitespaceSplit": (),
        "Split": ("pattern", "behavior", "invert"),
        "Punctuation": ("behavior",),
        "Sequence": ("pretokenizers",),
    },
    "post_processor": {
        "ByteLevel": _BYTE_LEVEL,
        "TemplateProcessing": ("single", "pair", "special_tokens"),
    },
    "decoder": {"ByteLevel": _BYTE_LEVEL},
}  # type: Dict[str, Dict[str, Tuple[str, ...]]]

Json = Dict[str, Any]


def portable_json(text: str, path: str = "") -> str:
    """The text of a tokenizer.json, rewritten for the board.

    Args:
        text: What the current ``tokenizers`` saved, or an already portable file.
        path: Where it came from, for messages.

    Raises:
        FormatError: Not JSON, or not a tokenizer.
        UnsupportedError: Something in it cannot be said to tokenizers 0.12.1.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError("not JSON: {}.".format(error), path)
    return json.dumps(portable(document, path), ensure_ascii=False, separators=(",", ":")) + "\n"


def portable(document: Any, path: str = "") -> Json:
    """The same for a parsed document; returns a new one with every key in a fixed order.

    Raises:
        FormatError: Not a tokenizer.
        UnsupportedError: Something in it cannot be said to tokenizers 0.12.1.
    """
    _expect(document, dict, path, "")
    _refuse_unknown(document, _TOP_KEYS + ("version", "truncation", "padding"), path, "")
    result = {"version": "1.0", "truncation": None, "padding": None}  # type: Json
    added = sorted(
        (
            _added_token(t, path)
            for t in _expect(document.get("added_tokens") or [], list, path, "added_tokens")
        ),
        key=lambda token: token["id"],
    )
    result["added_tokens"] = added
    for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        result[name] = _part(name, document.get(name), path)
    result["model"] = _model(_expect(document.get("model"), dict, path, "model"), added, path)
    _check_added_ids(added, result["model"]["vocab"], path)
    return result


def _added_token(token: Any, path: str) -> Json:
    _expect(token, dict, path, "added_tokens")
    _refuse_unknown(token, ("id", "content") + _FLAGS, path, "added_tokens")
    number = _expect(token.get("id"), int, path, "added_tokens.id")
    content = _expect(token.get("content"), str, path, "added_tokens.content")
    result = {"id": number, "content": content}  # type: Json
    result.update((flag, bool(token.get(flag, False))) for flag in _FLAGS)
    return result


def _check_added_ids(added: List[Json], vocab: Dict[str, int], path: str) -> None:
    """The old reader ignores the id in the file: it looks the token up, or counts on."""
    following = len(vocab)
    for token in added:
        given = vocab.get(token["content"])
        if given is None:
            given, following = following, following + 1
        if given != token["id"]:
            raise UnsupportedError(
                "{}: the added token {!r} has id {}; {} would give it {}.".format(
                    path or "tokenizer", token["content"], token["id"], READER, given
                ),
                note="ids of added tokens must follow the vocabulary without a gap.",
            )


def _part(name: str, value: Any, path: str) -> Optional[Json]:
    """A normalizer, pre-tokenizer, post-processor or decoder, or None."""
    if value is None:
        return None
    _expect(value, dict, path, name)
    if name == "post_processor" and value.get("type") == "Sequence":
        return _part(name, _only_processor(value, path), path)
    kind = _expect(value.get("type"), str, path, name + ".type")
    if kind not in _PARTS[name]:
        raise _unsupported(
            "{} {!r}".format(name, kind), path, "known: " + ", ".join(sorted(_PARTS[name]))
        )
    keys = _PARTS[name][kind]
    _refuse_unknown(value, ("type",) + keys, path, name)
    result = {"type": kind}
    result.update((key, value[key]) for key in keys if key in value)
    if kind == "Sequence":
        items = _expect(value.get(keys[0]), list, path, name)
        result[keys[0]] = [_part(name, item, path) for item in items]
    return result


def _only_processor(sequence: Json, path: str) -> Optional[Json]:
    """0.12.1 has no sequence of post-processors; ByteLevel in one only moves offsets, not ids."""
    items = _expect(sequence.get("processors"), list, path, "post_processor")
    others = [i for i in items if _expect(i, dict, path, "processors").get("type") != "ByteLevel"]
    if len(others) > 1:
        raise _unsupported("post_processor 'Sequence' with {} templates".format(len(others)), path)
    return others[0] if others else None


def _model(model: Json, added: List[Json], path: str) -> Json:
    if model.get("type", "BPE") != "BPE":
        raise _unsupported("model type {!r}".format(model.get("type")), path, "known: BPE")
    known = _MODEL_KEYS + ("type", "vocab", "merges", "ignore_merges")
    _refuse_unknown(model, known, path, "model")  # also dropout and byte_fallback, when set
    merges = [_merge(m, path) for m in _expect(model.get("merges"), list, path, "model.merges")]
    plain = {token["content"] for token in added if not token["special"]}
    given = _expect(model.get("vocab"), dict, path, "model.vocab")
    vocab = {token: number for token, number in given.items() if token not in plain}
    _check_vocab(vocab, merges, path)
    if model.get("ignore_merges"):
        _check_reach(vocab, merges, {token["content"] for token in added}, path)
    result = {"type": "BPE", "dropout": None}  # type: Json
    result.update((key, model.get(key)) for key in _MODEL_KEYS)
    result["fuse_unk"] = bool(model.get("fuse_unk"))
    result["vocab"] = vocab
    result["merges"] = [" ".join(pair) for pair in merges]
    return result


def _merge(merge: Any, path: str) -> Tuple[str, str]:
    """A pair, from either way of writing it."""
    pair = merge.split(" ") if isinstance(merge, str) else merge
    if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) for p in pair)):
        raise FormatError("{!r} is not a pair of tokens.".format(merge), path, "model.merges")
    if any(" " in token for token in pair):
        raise _unsupported("a merge of tokens with spaces in them, {!r},".format(merge), path)
    return pair[0], pair[1]


def _check_vocab(vocab: Dict[str, int], merges: List[Tuple[str, str]], path: str) -> None:
    if not all(type(number) is int and number >= 0 for number in vocab.values()):
        raise FormatError("ids must be whole numbers.", path, "model.vocab")
    if len(set(vocab.values())) != len(vocab):
        raise FormatError("two tokens have the same id.", path, "model.vocab")
    for left, right in merges:
        for token in (left, right, left + right):
            if token not in vocab:
                raise FormatError(
                    "{!r} + {!r} needs the token {!r}, which the vocabulary lacks.".format(
                        left, right, token
                    ),
                    path,
                    "model.merges",
                )


def _check_reach(
    vocab: Dict[str, int], merges: List[Tuple[str, str]], added: Iterable[str], path: str
) -> None:
    """With ``ignore_merges`` a word in the vocabulary is one token; merges must reach it too."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    skipped = set(added)
    for token in vocab:
        if token not in skipped and len(merged(token, ranks)) > 1:
            raise _unsupported(
                "ignore_merges", path, "merges alone never give the token {!r}".format(token)
            )


def merged(word: str, ranks: Dict[Tuple[str, str], int]) -> List[str]:
    """Byte-pair merging of one word, slow and plain: lowest rank first, leftmost of equals."""
    parts = list(word)
    while len(parts) > 1:
        best = min(
            range(len(parts) - 1), key=lambda i: ranks.get((parts[i], parts[i + 1]), len(ranks))
        )
        if (parts[best], parts[best + 1]) not in ranks:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts


def _refuse_unknown(value: Json, known: Iterable[str], path: str, field: str) -> None:
    """Keys that a newer version added are harmless when they are off, and refused when on."""
    for key in sorted(set(value) - set(known)):
        if value[key]:
            name = field + "." + key if field else key
            raise _unsupported("{} = {!r}".format(name, value[key]), path)


def _unsupported(what: str, path: str, note: Optional[str] = None) -> UnsupportedError:
    return UnsupportedError(
        "{}: {} cannot be expressed for {}.".format(path or "tokenizer", what, READER),
        note=note,
        hint="train a tokenizer with: merino-edge train ARCH --corpus PATH --vocab-size 8192",
    )


def _expect(value: Any, kind: Any, path: str, field: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise FormatError("expected {}, found {!r:.60}.".format(kind.__name__, value), path, field)
    return value
