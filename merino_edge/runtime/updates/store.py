"""The folder where a device keeps its bundles: two slots, a link to the active one, what is known.

The one idea: the active slot is never written. A new bundle is unpacked beside the slots and takes
the place of the inactive one by a rename; then ``state.json`` says which is active, and ``current``
follows.

::

    STORE/current -> slots/b/bundle      what `merino-edge run STORE/current` opens
    STORE/state.json                     which slot is active, and how each is doing
    STORE/slots/a/archive.json, bundle/  what was installed, and its index
    STORE/keys/*.pub                     who may update; none: anybody
    STORE/lock, STORE/install.lock       held while something changes; a process that dies lets go

Two locks, because installing takes minutes on a slow card and a self-test may build an engine,
while counting a start must not wait for either.
"""

import contextlib
import fcntl
import os
from typing import Dict, Iterator, Mapping, NamedTuple, Optional

from merino_edge.errors import FormatError, MerinoError, UsageError
from merino_edge.formats import jsonio
from merino_edge.formats.archive import INDEX, MOST_INDEX_BYTES, SCHEMA, ArchiveIndex, archive_id
from merino_edge.formats.archive import check_index as _check_index
from merino_edge.formats.bundle import MANIFEST, Bundle, sha256_of
from merino_edge.runtime.updates import durable, state
from merino_edge.runtime.updates.state import SLOTS, SlotState, StoreState

VARIABLE = "MERINO_EDGE_STORE"
SYSTEM_FOLDER = "/var/lib/merino-edge"


class Held(NamedTuple):
    """What a slot holds, by its own index.

    Attributes:
        contents: Of the archive that was installed there.
        archive_id: Its name.
    """

    contents: ArchiveIndex
    archive_id: str


def default_folder(environment: Optional[Mapping[str, str]] = None) -> str:
    """$MERINO_EDGE_STORE; or the system's folder, where it can be written; or the user's own."""
    variables = os.environ if environment is None else environment
    if variables.get(VARIABLE):
        return variables[VARIABLE]
    if os.access(SYSTEM_FOLDER, os.W_OK) or os.geteuid() == 0:
        return SYSTEM_FOLDER
    home = os.path.join(os.path.expanduser("~"), ".local", "share")
    return os.path.join(variables.get("XDG_DATA_HOME") or home, "merino-edge")


class Store:
    """A store, which need not exist yet; only ``locked`` and ``installing`` make it.

    Attributes:
        path: The folder.
        current: The link to the active bundle.
    """

    def __init__(self, path: str):
        self.path = path
        self.current = os.path.join(path, "current")
        self.slots = os.path.join(path, "slots")
        self.keys = os.path.join(path, "keys")
        self._state = os.path.join(path, "state.json")

    def slot(self, slot: str) -> str:
        """Folder of a slot."""
        return os.path.join(self.slots, slot)

    def bundle(self, slot: str) -> str:
        """The bundle in a slot."""
        return os.path.join(self.slots, slot, "bundle")

    @contextlib.contextmanager
    def locked(self) -> Iterator[StoreState]:
        """Alone with the state, for as long as a few small files take; ``current`` follows it.

        Raises:
            UsageError: ``current`` is there and is no link.
        """
        with self._lock("lock", wait=True):
            found = self.read_state()
            self._follow(found)
            yield found

    @contextlib.contextmanager
    def installing(self) -> Iterator[None]:
        """Alone among those that fill or test a slot.

        Raises:
            MerinoError: Another one is at it.
        """
        with self._lock("install.lock", wait=False):
            yield

    def read_state(self) -> StoreState:
        """What is known; from the link, where the file is missing or cannot be read."""
        try:
            data = jsonio.read_bytes(self._state, MOST_INDEX_BYTES)
            return state.state_from(data, self._state)
        except FormatError:
            return self._state_by_link()

    def commit(self, new: StoreState) -> None:
        """Make a state the one that counts, then let ``current`` follow. Needs the lock."""
        durable.write_file(self._state, state.state_bytes(new))
        self._follow(new)

    def held(self, slot: str) -> Optional[Held]:
        """What a slot holds; None for an empty one.

        Raises:
            FormatError: Its index is damaged.
        """
        path = os.path.join(self.slot(slot), INDEX)
        if not os.path.lexists(path):
            return None
        data = jsonio.read_bytes(path, MOST_INDEX_BYTES)
        index = jsonio.record_from(jsonio.json_from(data, path), path, SCHEMA, ArchiveIndex)
        _check_index(index, path)
        return Held(index, archive_id(data))

    def known(self, slot: str, found: StoreState) -> SlotState:
        """How a slot is doing: what was found out, if it still holds the same archive."""
        try:
            held = self.held(slot)
        except FormatError as error:
            return SlotState("", state.FAILED, error.message)
        if held is None:
            return SlotState("", state.EMPTY)
        remembered = found.slots.get(slot)
        if remembered is not None and remembered.archive_id == held.archive_id:
            return remembered
        return SlotState(held.archive_id, state.INSTALLED)

    def all_known(self, found: StoreState) -> Dict[str, SlotState]:
        """How every slot is doing."""
        return {slot: self.known(slot, found) for slot in SLOTS}

    def problem(self, slot: str) -> Optional[str]:
        """Why a slot cannot be started, as far as a glance tells (no file is read through)."""
        try:
            Bundle.open(self.bundle(slot))
        except (MerinoError, OSError) as error:
            return getattr(error, "message", None) or str(error)
        return None

    def check(self, slot: str) -> None:
        """Read a slot's bundle through: all is as the archive had it.

        Raises:
            FormatError: The slot is empty, or a file is missing or changed.
        """
        held, path = self.held(slot), self.bundle(slot)
        if held is None:
            raise FormatError("the slot is empty.", self.slot(slot))
        manifest = os.path.join(path, MANIFEST)
        bundle = Bundle.open(path)
        if sha256_of(manifest) != held.contents.files[0].sha256:
            raise FormatError("changed since it was installed.", manifest)
        bundle.verify_checksums()

    def _state_by_link(self) -> StoreState:
        """The slot that ``current`` leads to is taken for good: it is all there is to go by."""
        target = os.readlink(self.current) if os.path.islink(self.current) else ""
        active = next((slot for slot in SLOTS if target == _target(slot)), None)
        if active is None:
            return StoreState()
        with contextlib.suppress(FormatError):
            held = self.held(active)
            if held is not None:
                good = SlotState(held.archive_id, state.GOOD)
                return StoreState(active).with_slot(active, good)
        return StoreState(active)

    def _follow(self, found: StoreState) -> None:
        if found.active is None:
            return
        target = _target(found.active)
        if os.path.islink(self.current) and os.readlink(self.current) == target:
            return
        if os.path.lexists(self.current) and not os.path.islink(self.current):
            raise UsageError(
                "'{}' is there and is not the link of a store.".format(self.current),
                hint="move it away, or name another --store.",
            )
        durable.point(self.current, target)

    @contextlib.contextmanager
    def _lock(self, name: str, wait: bool) -> Iterator[None]:
        for folder in (self.path, self.slots, self.keys):
            durable.make_folder(folder)
        handle = os.open(os.path.join(self.path, name), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield
        except BlockingIOError:
            raise MerinoError(
                "another install, activate or self-test is at work in '{}'.".format(self.path),
                hint="wait until it has ended.",
            )
        finally:
            os.close(handle)


def _target(slot: str) -> str:
    """Where ``current`` points: relative, so that a store can be mounted elsewhere."""
    return os.path.join("slots", slot, "bundle")
