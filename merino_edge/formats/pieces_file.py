r"""``pieces.bin``: what each token writes, as bytes; all that firmware needs to stream text.

The one idea: turning text into tokens takes a tokenizer, turning tokens into text takes a table.
A bundle for the native decoder has the table beside ``tokenizer.json``, so that a C program
without a tokenizer (and without JSON) prints what the model says: it writes the bytes of one token
after the other. A character may be spread over several tokens; joined, they are whole.

All numbers are little-endian u32::

       0  "PIECES\0\1"; the last byte is the version of the format
       8  tokens, end tokens, bytes of text;  0
      24  the ids of the end tokens, any of which ends a text
          for each token, where its bytes begin in the text, and then where the last one ends
          the text

Special tokens write nothing, and neither do ids that the tokenizer leaves out.
This module reads ``tokenizer.json`` in the form of ``tokenizer_file``; it never splits a text.
"""

import json
import struct
from typing import Any, Dict, List, NamedTuple, Sequence

from merino_edge.errors import FormatError
from merino_edge.formats import jsonio
from merino_edge.formats.magic import check_magic

PIECES_FILE = "pieces.bin"
MAGIC = b"PIECES\0\1"
MAX_PIECES_BYTES = 64 << 20

_HEADER = struct.Struct("<8s4I")


class Pieces(NamedTuple):
    """The table: bytes of each id, and the ids that end a text."""

    pieces: List[bytes]
    end_ids: List[int]


def pieces_of_tokenizer(text: str) -> List[bytes]:
    """What each id of a byte-pair tokenizer writes, special tokens nothing.

    Where the tokenizer has no byte-level decoder, tokens are words and stand apart: then every
    piece begins with a space, also the first of a text, which the tokenizer would begin without.

    Args:
        text: A tokenizer.json, in the form that ``portable_json`` gives.
    """
    document = json.loads(text)
    names = {number: token for token, number in document["model"]["vocab"].items()}
    names.update((token["id"], token["content"]) for token in document["added_tokens"])
    silent = {token["id"] for token in document["added_tokens"] if token["special"]}
    alphabet = byte_of_character() if document["decoder"] else None
    pieces = [b""] * (max(names, default=-1) + 1)
    for number, name in names.items():
        if number not in silent:
            pieces[number] = _written(name, alphabet)
    return pieces


def write_pieces(path: str, pieces: Sequence[bytes], end_ids: Sequence[int]) -> None:
    """Write the file, atomically."""
    starts, position = [0], 0
    for piece in pieces:
        position += len(piece)
        starts.append(position)
    words = list(end_ids) + starts
    header = _HEADER.pack(MAGIC, len(pieces), len(end_ids), position, 0)
    table = struct.pack("<{}I".format(len(words)), *words)
    jsonio.write_bytes_atomic(path, b"".join([header, table] + list(pieces)))


def read_pieces(path: str) -> Pieces:
    """Read the file and check every number in it.

    Raises:
        FormatError: Missing, cut short or damaged.
        SchemaVersionError: Written by another version.
    """
    data = jsonio.read_bytes(path, MAX_PIECES_BYTES)
    check_magic(data, MAGIC, "a table of pieces", path)
    if len(data) < _HEADER.size:
        raise FormatError("the file ends inside its header.", path)
    _, n_pieces, n_ends, n_bytes, _ = _HEADER.unpack_from(data)
    n_words = n_ends + n_pieces + 1
    text = _HEADER.size + 4 * n_words
    if len(data) != text + n_bytes:
        raise FormatError("{} bytes, {} expected.".format(len(data), text + n_bytes), path)
    words = struct.unpack_from("<{}I".format(n_words), data, _HEADER.size)
    end_ids, starts = list(words[:n_ends]), words[n_ends:]
    if list(starts) != sorted(starts) or starts[0] != 0 or starts[-1] != n_bytes:
        raise FormatError("a piece does not begin where the one before it ends.", path)
    return Pieces([data[text + a : text + b] for a, b in zip(starts, starts[1:])], end_ids)


def _written(name: str, alphabet: Any) -> bytes:
    """A token's bytes; one that is not spelled in the alphabet stands for itself."""
    if alphabet is None:
        return (" " + name).encode("utf-8")
    if all(character in alphabet for character in name):
        return bytes(alphabet[character] for character in name)
    return name.encode("utf-8")


def byte_of_character() -> Dict[str, int]:
    """The alphabet of byte-level BPE: printable bytes are their own Latin-1 character.

    The others are the characters from 256 on, in order. Source: GPT-2, ``bytes_to_unicode``.
    """
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table.update((chr(256 + i), byte) for i, byte in enumerate(others))
    return table
