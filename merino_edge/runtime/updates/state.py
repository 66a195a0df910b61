"""Which slot is active, and how each is doing: one small file that decides.

The one idea: ``state.json`` is the truth and the link ``current`` follows it; between the two a
power cut may fall, and the next command brings the link after. Where the file cannot be read, the
link is asked instead, so that there is always an answer. What was found out about a slot is kept
with the archive's id: as soon as the slot holds another archive, it is forgotten.
"""

from typing import Dict, NamedTuple, Optional

from merino_edge.errors import FormatError
from merino_edge.formats import jsonio

SCHEMA = "merino-edge.slots/1"
SLOTS = ("a", "b")
MAX_STARTS = 3

EMPTY = "empty"
INSTALLED = "installed"  # whole, and not yet tried
TRIAL = "on trial"  # active, and not yet confirmed
GOOD = "good"  # was confirmed
FAILED = "failed"  # failed its self-test, crashed in a loop, or was rolled back


class SlotState(NamedTuple):
    """What was found out about the archive in a slot.

    Attributes:
        archive_id: Which archive.
        status: One of the words above.
        reason: Why it failed; "" otherwise.
    """

    archive_id: str
    status: str
    reason: str = ""


class StoreState(NamedTuple):
    """What a store remembers.

    Attributes:
        active: The slot that ``current`` shall lead to; None before the first activation.
        starts: How often the active slot was started while on trial.
        max_starts: After so many starts without a confirmation it is rolled back.
        slots: By slot.
    """

    active: Optional[str] = None
    starts: int = 0
    max_starts: int = MAX_STARTS
    slots: Dict[str, SlotState] = {}

    def with_slot(self, slot: str, known: SlotState) -> "StoreState":
        """The same, with something else known about one slot."""
        return self._replace(slots=dict(self.slots, **{slot: known}))


def state_from(data: bytes, path: str) -> StoreState:
    """A state from what its file held.

    Raises:
        FormatError: It is none.
    """
    document = jsonio.json_from(data, path)
    state = jsonio.record_from(document, path, SCHEMA, StoreState)
    known = {EMPTY, INSTALLED, TRIAL, GOOD, FAILED}
    if state.active not in (None,) + SLOTS or not set(state.slots) <= set(SLOTS):
        raise FormatError("names a slot that there is not.", path)
    if not {each.status for each in state.slots.values()} <= known:
        raise FormatError("a status is none of {}.".format(", ".join(sorted(known))), path)
    return state


def state_bytes(state: StoreState) -> bytes:
    """A state as its file holds it."""
    document = {"schema": SCHEMA}
    document.update(jsonio.encode(state))
    return jsonio.dumps(document).encode("utf-8")
