"""Who may ask: this machine, or whoever has a token.

The one idea: without a token the server is for this machine alone, and "this machine" includes the
browser, in which any page of the web may send requests here. So, without a token, the name that the
browser thought it was talking to must be a name of this machine (no page of another origin gets
past that by renaming itself: "DNS rebinding"), and a body must be declared as JSON, which a page
of another origin may not do without being allowed to.
"""

import hmac
import ipaddress
import os
import re
from typing import List, Mapping, Optional, Sequence

from merino_edge.errors import UsageError
from merino_edge.runtime.serving.web.problem import Problem

MAX_TOKEN_FILE_BYTES = 64 << 10
FEWEST_CHARACTERS = 16
_TOKEN = re.compile(r"^[\x21-\x7e]+$")


def is_loopback(host: str) -> bool:
    """Whether an address, or a name, is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_tokens(path: str) -> List[str]:
    """The tokens of a file: one on a line, lines with # are remarks.

    Raises:
        UsageError: It cannot be read, holds none, or one that is too short or not plain ASCII.
    """
    try:
        with open(path, "rb") as stream:
            lines = stream.read(MAX_TOKEN_FILE_BYTES).decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise UsageError("the token file '{}': {}.".format(path, error.strerror))
    tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    bad = [token for token in tokens if len(token) < FEWEST_CHARACTERS or not _TOKEN.match(token)]
    if bad or not tokens:
        what = "{} of its tokens cannot be".format(len(bad)) if bad else "no token is in it"
        raise UsageError(
            "the token file '{}': {}.".format(path, what),
            note="a token is {} characters or more of ASCII, without blanks.".format(
                FEWEST_CHARACTERS
            ),
            hint="umask 077; openssl rand -hex 32 > {}".format(path),
        )
    return tokens


def others_may_read(path: str) -> bool:
    """Whether other users of this machine can read a file."""
    return bool(os.stat(path).st_mode & 0o044)


def check_binding(host: str, tokens: Sequence[str]) -> None:
    """Refuse to serve strangers without a token.

    Raises:
        UsageError: The address is not this machine's alone, and there is no token.
    """
    if not tokens and not is_loopback(host):
        raise UsageError(
            "--host {} lets other machines in, and there is no token.".format(host),
            note="whoever reaches the port could use the model.",
            hint="umask 077; openssl rand -hex 32 > token.txt; then add --token-file token.txt",
        )


def check_host(headers: Mapping[str, str]) -> None:
    """Refuse a request that was meant for another name; for a server without tokens.

    Raises:
        Problem: 403.
    """
    named = headers.get("Host")
    if named is None:  # HTTP/1.0, no browser
        return
    host = re.sub(r":\d*$", "", named.strip()).strip("[]").lower()
    if not is_loopback(host):
        raise Problem(403, "this server is for this machine only.", "wrong_host")


def client_of(headers: Mapping[str, str], tokens: Sequence[str]) -> str:
    """Which of the tokens a request shows, as a name that does not tell it.

    Raises:
        Problem: 401.
    """
    kind, _, shown = (headers.get("Authorization") or "").strip().partition(" ")
    given = shown.strip().encode("utf-8", "replace") if kind.lower() == "bearer" else b""
    found: Optional[int] = None
    for number, token in enumerate(tokens):  # all of them, so that time does not tell which
        if hmac.compare_digest(given, token.encode("utf-8")):
            found = number
    if found is None:
        raise Problem(
            401,
            "this server wants a token: Authorization: Bearer TOKEN.",
            "invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return "token {}".format(found + 1)
