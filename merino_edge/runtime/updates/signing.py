"""The door to PyNaCl (libsodium's Ed25519), the only importer of it.

The one idea: three functions on bytes, so that no other module learns the library's classes. It was
chosen for its wheels: PyNaCl 1.5.0 is there for Python 3.6 on aarch64 (0.7 MB with libsodium in it;
the last ``cryptography`` for 3.6 has 3.5 MB), and the same calls work in its newest version.
"""

from typing import Any, Tuple

from merino_edge.errors import FormatError, MissingDependencyError


def new_key() -> Tuple[bytes, bytes]:
    """A new pair: (private, public), 32 bytes each, from the system's randomness.

    Raises:
        MissingDependencyError: PyNaCl is not installed.
    """
    key = _nacl().signing.SigningKey.generate()
    return bytes(key), bytes(key.verify_key)


def public_key_of(private_key: bytes) -> bytes:
    """The public half of a private key.

    Raises:
        MissingDependencyError: PyNaCl is not installed.
    """
    return bytes(_nacl().signing.SigningKey(private_key).verify_key)


def sign(private_key: bytes, message: bytes) -> bytes:
    """The signature, 64 bytes; Ed25519 draws nothing, so the same message has the same signature.

    Raises:
        MissingDependencyError: PyNaCl is not installed.
    """
    return bytes(_nacl().signing.SigningKey(private_key).sign(message).signature)


def check(public_key: bytes, message: bytes, signature: bytes, path: str) -> None:
    """Return only if this key made this signature of this message.

    Raises:
        FormatError: It did not.
        MissingDependencyError: PyNaCl is not installed.
    """
    nacl = _nacl()
    try:
        nacl.signing.VerifyKey(public_key).verify(message, signature)
    except (nacl.exceptions.CryptoError, ValueError):
        raise FormatError(
            "the signature is wrong.",
            path,
            note="what it holds is not what the owner of the key signed.",
            hint="fetch the archive again, from where you trust.",
        )


def _nacl() -> Any:
    try:
        import nacl.exceptions
        import nacl.signing
    except ImportError:
        raise MissingDependencyError(
            "PyNaCl",
            "signing an archive, or checking its signature,",
            hint="pip install 'merino-edge[updates]' (Python 3.6: PyNaCl==1.5.0).",
        )
    return nacl
