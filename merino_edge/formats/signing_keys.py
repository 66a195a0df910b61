"""Key files and signatures as files: JSON with a schema, numbers in hexadecimal.

The one idea: a key is named by its ``key_id``, sixteen digits of the SHA-256 of the public key, so
a signature says which key it wants and nobody can give a key another one's name. Making and
checking signatures is not known here (``runtime.updates.signing``).
"""

import hashlib
import os
import re
import stat
from typing import NamedTuple

from merino_edge.errors import FormatError, UsageError
from merino_edge.formats import jsonio

PUBLIC_SCHEMA = "merino-edge.public-key/1"
PRIVATE_SCHEMA = "merino-edge.private-key/1"
SIGNATURE_SCHEMA = "merino-edge.signature/1"
ALGORITHM = "ed25519"
KEY_BYTES = 32
SIGNATURE_BYTES = 64
_MOST_BYTES = 4096


class PublicKey(NamedTuple):
    """What a device checks with."""

    key_id: str
    algorithm: str
    public_key: str


class PrivateKey(NamedTuple):
    """What signs; whoever has it can update every device that has its public key."""

    key_id: str
    algorithm: str
    private_key: str


class Signature(NamedTuple):
    """A signature, and the key that it wants."""

    key_id: str
    algorithm: str
    signature: str


def key_id(public_key: bytes) -> str:
    """The name of a key."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def write_public_key(path: str, public_key: bytes) -> None:
    """Write a ``.pub`` file."""
    record = PublicKey(key_id(public_key), ALGORITHM, public_key.hex())
    jsonio.write_record(path, PUBLIC_SCHEMA, record)


def read_public_key(path: str) -> PublicKey:
    """Read a ``.pub`` file.

    Raises:
        FormatError: It is none, or its name is not its own.
    """
    document = jsonio.json_from(jsonio.read_bytes(path, _MOST_BYTES), path)
    key = jsonio.record_from(document, path, PUBLIC_SCHEMA, PublicKey)
    data = _bytes_of(key.public_key, KEY_BYTES, path, "public_key")
    _check_algorithm(key.algorithm, path)
    if key.key_id != key_id(data):
        raise FormatError("is not the name of this key.", path, "key_id")
    return key


def write_private_key(path: str, private_key: bytes, public_key: bytes) -> None:
    """Write the private half, readable by its owner alone; never over a file that is there.

    Raises:
        UsageError: There is a file.
    """
    record = PrivateKey(key_id(public_key), ALGORITHM, private_key.hex())
    document = {"schema": PRIVATE_SCHEMA}
    document.update(jsonio.encode(record))
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(
            "'{}' exists, and a lost private key cannot be made again.".format(path),
            hint="name another -o.",
        )
    with os.fdopen(handle, "wb") as stream:
        stream.write(jsonio.dumps(document).encode("utf-8"))
        stream.flush()
        os.fsync(stream.fileno())


def read_private_key(path: str) -> bytes:
    """Read the private half.

    Raises:
        FormatError: It is none.
        UsageError: Others may read it.
    """
    data = jsonio.read_bytes(path, _MOST_BYTES)
    if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
        raise UsageError(
            "others may read or change the private key '{}'.".format(path),
            hint="chmod 600 {}; if others had the time, make a new one.".format(path),
        )
    key = jsonio.record_from(jsonio.json_from(data, path), path, PRIVATE_SCHEMA, PrivateKey)
    _check_algorithm(key.algorithm, path)
    return _bytes_of(key.private_key, KEY_BYTES, path, "private_key")


def signature_bytes(signature: bytes, public_key: bytes) -> bytes:
    """A signature as the file that goes into an archive."""
    document = {"schema": SIGNATURE_SCHEMA}
    document.update(jsonio.encode(Signature(key_id(public_key), ALGORITHM, signature.hex())))
    return jsonio.dumps(document).encode("utf-8")


def signature_from(data: bytes, path: str) -> Signature:
    """A signature from the file in an archive; only its form is checked.

    Raises:
        FormatError: It is none.
    """
    document = jsonio.json_from(data, path)
    signature = jsonio.record_from(document, path, SIGNATURE_SCHEMA, Signature)
    _check_algorithm(signature.algorithm, path)
    _bytes_of(signature.signature, SIGNATURE_BYTES, path, "signature")
    if not re.fullmatch("[0-9a-f]{16}", signature.key_id):
        raise FormatError("not sixteen hexadecimal digits.", path, "key_id")
    return signature


def _check_algorithm(algorithm: str, path: str) -> None:
    if algorithm != ALGORITHM:
        raise FormatError("is not '{}'.".format(ALGORITHM), path, "algorithm")


def _bytes_of(digits: str, n_bytes: int, path: str, field: str) -> bytes:
    if not re.fullmatch("[0-9a-f]{%d}" % (2 * n_bytes), digits):
        raise FormatError("not {} bytes in hexadecimal.".format(n_bytes), path, field)
    return bytes.fromhex(digits)
