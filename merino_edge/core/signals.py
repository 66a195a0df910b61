"""Stopping politely: Ctrl-C and SIGTERM become a wish that the loop reads between two steps.

A second signal is obeyed at once, for whoever cannot wait for the step to end.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopWish:
    """Whether someone asked to stop."""

    def __init__(self) -> None:
        self.name: str | None = None

    def __bool__(self) -> bool:
        return self.name is not None


@contextlib.contextmanager
def stop_wish() -> Iterator[StopWish]:
    """While the block runs, the first SIGINT or SIGTERM only sets the wish.

    Outside the main thread Python allows no handlers; then the wish is never set.
    """
    wish = StopWish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    earlier = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        wish.name = signal.Signals(number).name
        _restore(earlier)

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield wish
    finally:
        _restore(earlier)


def _restore(earlier: dict[signal.Signals, Any]) -> None:
    for number, handler in earlier.items():
        signal.signal(number, handler)
