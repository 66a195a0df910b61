"""Which Python the workstation's half of the package needs, and the sentence where it is older.

A board has Python 3.6. Importing a module of the workstation there would die in a SyntaxError, so
whoever needs one asks here first.
"""

import sys

from merino_edge.errors import UsageError

HOST_PYTHON = (3, 10)


def is_workstation() -> bool:
    """Whether the workstation's modules can be imported here."""
    return sys.version_info >= HOST_PYTHON


def require_workstation(what: str) -> None:
    """Go on where the workstation's modules can be imported.

    Args:
        what: What needs them, as the sentence's subject.

    Raises:
        UsageError: This Python is too old.
    """
    if is_workstation():
        return
    raise UsageError(
        "{} belongs to the workstation and needs Python {}.{} or later.".format(what, *HOST_PYTHON),
        note="this is Python {}.{}.".format(*sys.version_info[:2]),
        hint="run it on a workstation with merino-edge[host]; copy the bundle here.",
    )
