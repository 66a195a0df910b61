"""What a check says: ok, warn or fail, with the facts, what follows from them, and the remedy."""

from typing import NamedTuple

MIB = 1 << 20


class Check(NamedTuple):
    """A verdict.

    Attributes:
        name: What was looked at.
        status: "ok", "warn" or "fail".
        found: The facts, with values.
        why: What follows from them; empty if ok.
        mend: The command that helps; empty if ok, or if none does.
    """

    name: str
    status: str
    found: str
    why: str = ""
    mend: str = ""
