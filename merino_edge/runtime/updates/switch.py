"""Which slot runs: tried before it is switched to, on trial after, and left again when it fails.

The one idea: a new bundle has to earn its place three times. Its golden prompts give their tokens
before anything is switched; then each start is counted *before* the service runs, so that a start
which takes the machine down was counted; and only a service that says it is healthy ends the trial.
Whoever fails is left for the other slot, which was good before and was not touched.

A trial is never ended by time: a clock that a board without a battery does not have is not asked.
"""

from typing import Callable, NamedTuple, Optional

from merino_edge.errors import MerinoError, UsageError
from merino_edge.runtime.updates import state
from merino_edge.runtime.updates.state import MAX_STARTS, SLOTS, SlotState, StoreState
from merino_edge.runtime.updates.store import Store

# Raises if the bundle in the folder does not give what it promises.
SelfTest = Callable[[str], object]
# The bundle's own fault: incompatible, wrong tokens, damaged. Memory that is short, or a package
# that is missing, is the machine's, and a slot is not blamed for it.
_OWN_FAULT = (3, 5, 8)


class Switched(NamedTuple):
    """What a command found or did.

    Attributes:
        active: The slot that is active now.
        status: How it is doing.
        did: In words.
        starts: Of the trial, if it is on one.
        max_starts: After how many it ends.
        left: The slot that was left for it, or None.
    """

    active: str
    status: str
    did: str
    starts: int = 0
    max_starts: int = MAX_STARTS
    left: Optional[str] = None


def activate(
    store: Store,
    self_test: SelfTest,
    slot: Optional[str] = None,
    max_starts: int = MAX_STARTS,
) -> Switched:
    """Test the bundle that was installed, and let ``current`` lead to it, on trial.

    Args:
        store: Where.
        self_test: Raises if it fails; then nothing is switched.
        slot: Which; None for the one that is installed and not yet tried.
        max_starts: Starts that it has to be confirmed in.

    Raises:
        MerinoError: The self-test's, or another install is at work.
        UsageError: There is nothing to activate.
    """
    with store.installing():
        with store.locked() as found:
            chosen = slot or _candidate(store, found)
            if chosen is None or chosen == found.active:
                return _as_it_is(store, found, "is active already")
            archive_id = _filled(store, chosen, found).archive_id
        _tested(store, chosen, self_test)
        with store.locked() as found:
            left = found.active
            if left is not None and store.known(left, found).status == state.TRIAL:
                reason = "left for slot {} while on trial".format(chosen)
                found = _marked(store, left, found, state.FAILED, reason)
            new = found.with_slot(chosen, SlotState(archive_id, state.TRIAL))
            store.commit(new._replace(active=chosen, starts=0, max_starts=max_starts))
    return Switched(chosen, state.TRIAL, "is active", 0, max_starts, left)


def boot(store: Store) -> Switched:
    """Count a start of the active slot, before it starts; roll back from one that does not last.

    A disk that is full or read-only must not keep a device from starting: then nothing is counted,
    and the answer says so.

    Raises:
        UsageError: No slot is active.
    """
    try:
        return _count_start(store)
    except OSError as error:
        return _as_it_is(store, store.read_state(), "starts, uncounted: {}".format(error))


def _count_start(store: Store) -> Switched:
    with store.locked() as found:
        active = _active(found)
        status = store.known(active, found).status
        problem = store.problem(active)
        spent = status == state.TRIAL and found.starts >= found.max_starts
        if problem is None and spent:
            problem = "was started {} times and not confirmed".format(found.starts)
        if problem is not None and _fallback(store, found) is not None:
            return _go_back(store, found, problem)
        if status == state.TRIAL:
            found = found._replace(starts=found.starts + 1)
            store.commit(found)
        did = "starts" if problem is None else "{}; no other slot to go back to".format(problem)
        return _as_it_is(store, found, did)


def confirm(store: Store) -> Switched:
    """End the trial of the active slot: it is good.

    Raises:
        UsageError: No slot is active.
    """
    with store.locked() as found:
        active = _active(found)
        if store.known(active, found).status != state.TRIAL:
            return _as_it_is(store, found, "is not on trial")
        found = _marked(store, active, found, state.GOOD)._replace(starts=0)
        store.commit(found)
        return _as_it_is(store, found, "is confirmed")


def rollback(store: Store) -> Switched:
    """Go back to the other slot, by hand; called again, it finds that done.

    Raises:
        UsageError: No slot is active, or the other one was never good.
    """
    with store.locked() as found:
        active = _active(found)
        if _fallback(store, found) is not None:
            return _go_back(store, found, "rolled back by hand")
        other = _other(active)
        known = store.known(other, found)
        if known.status == state.FAILED and store.known(active, found).status == state.GOOD:
            return _as_it_is(store, found, "is active; slot {} was left".format(other))
        raise UsageError(
            "slot {} is {}, so there is nothing to go back to.".format(other, known.status),
            note=known.reason or store.problem(other),
            hint="merino-edge bundle list says what there is.",
        )


def try_active(store: Store, self_test: SelfTest) -> Switched:
    """Test the active slot where it stands, and roll back if it fails and the other was good.

    Raises:
        MerinoError: The self-test's, after rolling back if that was possible.
        UsageError: No slot is active.
    """
    with store.installing():
        with store.locked() as found:
            active = _active(found)
        try:
            _run_test(store, active, self_test)
        except MerinoError as error:
            with store.locked() as found:
                blamed = error.exit_code in _OWN_FAULT and found.active == active
                if blamed and _fallback(store, found) is not None:
                    error.note = _go_back(store, found, error.message).did
            raise
        with store.locked() as found:
            return _as_it_is(store, found, "passed its self-test")


def _tested(store: Store, slot: str, self_test: SelfTest) -> None:
    """Run the self-test; a slot that fails by its own fault is marked."""
    try:
        _run_test(store, slot, self_test)
    except MerinoError as error:
        if error.exit_code in _OWN_FAULT:
            with store.locked() as found:
                store.commit(_marked(store, slot, found, state.FAILED, error.message))
        raise


def _run_test(store: Store, slot: str, self_test: SelfTest) -> None:
    store.check(slot)
    self_test(store.bundle(slot))


def _candidate(store: Store, found: StoreState) -> Optional[str]:
    """The slot that was filled and not tried."""
    for slot in SLOTS:
        if store.known(slot, found).status == state.INSTALLED and slot != found.active:
            return slot
    if found.active is None or store.known(found.active, found).status != state.TRIAL:
        failed = [s for s, k in store.all_known(found).items() if k.status == state.FAILED]
        hint = "merino-edge bundle install ARCHIVE"
        if failed:
            hint += "; or try slot {0} again: --slot {0}".format(failed[0])
        raise UsageError("no slot holds a bundle that waits to be activated.", hint=hint)
    return None


def _filled(store: Store, slot: str, found: StoreState) -> SlotState:
    known = store.known(slot, found)
    if not known.archive_id:
        raise UsageError(
            "slot {} is {}.".format(slot, known.status),
            known.reason or None,
            "merino-edge bundle install ARCHIVE",
        )
    return known


def _active(found: StoreState) -> str:
    if found.active is None:
        raise UsageError(
            "no slot is active.",
            hint="merino-edge bundle install ARCHIVE, then merino-edge bundle activate",
        )
    return found.active


def _fallback(store: Store, found: StoreState) -> Optional[str]:
    """The other slot, if it was good and still looks whole."""
    other = _other(_active(found))
    good = store.known(other, found).status == state.GOOD
    return other if good and store.problem(other) is None else None


def _go_back(store: Store, found: StoreState, reason: str) -> Switched:
    active, other = _active(found), _other(_active(found))
    new = _marked(store, active, found, state.FAILED, reason)
    store.commit(new._replace(active=other, starts=0))
    did = "is active again; slot {} was left: {}".format(active, reason)
    return Switched(other, state.GOOD, did, left=active)


def _marked(
    store: Store, slot: str, found: StoreState, status: str, reason: str = ""
) -> StoreState:
    known = store.known(slot, found)
    return found.with_slot(slot, known._replace(status=status, reason=reason))


def _as_it_is(store: Store, found: StoreState, did: str) -> Switched:
    active = _active(found)
    status = store.known(active, found).status
    return Switched(active, status, did, found.starts, found.max_starts)


def _other(slot: str) -> str:
    return next(each for each in SLOTS if each != slot)
