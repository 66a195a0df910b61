"""What ssh said, in the user's words.

The one idea: ssh has one exit code (255) for everything that can go wrong between two machines, so
the cause is read from the words that it prints. Some causes pass by themselves (a board that
restarts, a radio that fades) and are worth another try; others (an unknown key) are not. Nothing
here talks to a network.
"""

import re
from typing import NamedTuple

from merino_edge.errors import BoardError


class ConnectionLost(BoardError):
    """The board cannot be reached just now; it may come back."""


class _Cause(NamedTuple):
    """One way to fail: the words that tell it, whether it may pass, what to say and to do."""

    words: str
    may_pass: bool
    message: str
    hint: str


# The first that matches counts. {host} is what the user wrote, {name} is it without the account.
_CAUSES = (
    _Cause(
        r"IDENTIFICATION HAS CHANGED",
        False,
        "the host key of '{host}' is not the one that this machine knows.",
        "if the board was set up anew: ssh-keygen -R {name}, then ssh {host} once; if it was not, "
        "something else answers at its address.",
    ),
    _Cause(
        r"Host key verification failed|host key is known for",
        False,
        "this machine has never met '{host}': its host key is not known.",
        "type ssh {host} once, and compare the key it shows with the board's.",
    ),
    _Cause(
        r"Permission denied|Too many authentication failures",
        False,
        "'{host}' does not accept a key of ours.",
        "ssh-copy-id {host}; if the key has a passphrase: ssh-add.",
    ),
    _Cause(
        r"Bad configuration option|command-line.*line|unsupported option|keyword .* missing",
        False,
        "ssh does not understand an option.",
        "look at --ssh-option and at ~/.ssh/config; man ssh_config lists the options.",
    ),
    _Cause(
        r"Could not resolve hostname",
        True,
        "no machine is known by the name '{name}'.",
        "check the name, or use the board's address (on the board: hostname -I).",
    ),
    _Cause(
        r"Connection refused",
        True,
        "'{host}' refuses the connection: no ssh server listens there.",
        "on the board: sudo apt install openssh-server; for another port: --ssh-option Port=2222",
    ),
    _Cause(
        r"timed out|No route to host|unreachable|Host is down",
        True,
        "'{host}' does not answer.",
        "is the board switched on and in the same network? ping {name}",
    ),
)
_LOST = _Cause("", True, "the connection to '{host}' broke.", "ssh {host} true")


def link_error(host: str, said: str) -> BoardError:
    """The error for what ssh said before it gave up.

    Args:
        host: As the user wrote it.
        said: All that ssh wrote to its stderr.

    Returns:
        A ConnectionLost if it may pass, else a plain BoardError; the note is ssh's last line.
    """
    found = (cause for cause in _CAUSES if re.search(cause.words, said, re.IGNORECASE))
    cause = next(found, _LOST)
    kind = ConnectionLost if cause.may_pass else BoardError
    names = {"host": host, "name": host.rpartition("@")[2]}
    return kind(cause.message.format(**names), last_line(said), cause.hint.format(**names))


def last_line(text: str) -> str | None:
    """The last line that says something, or None."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else None
