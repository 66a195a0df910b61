"""Going on after the connection broke.

The one idea: every step (copy what is missing, start unless it runs, follow from where we were)
may be asked for again, so a broken connection is mended by connecting anew and repeating the step.
The pauses grow, and the time without any progress is limited. This module does not know the steps.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from merino_edge.errors import BoardError
from merino_edge.pipeline.remote.link_errors import ConnectionLost
from merino_edge.pipeline.remote.ssh import Ssh

Result = TypeVar("Result")
_LONGEST_PAUSE_S = 15.0


class Patience:
    """Repeats steps over a connection that may break.

    Args:
        ssh: The connection, which was open once.
        give_up_after_s: Seconds without progress after which a break is final.
        again: The command that goes on after all was given up.
        on_progress: Told about breaks.
        clock: Seconds.
        sleep: Waits for seconds.

    Attributes:
        again: As given.
        n_breaks: How often the connection broke.
    """

    def __init__(
        self,
        ssh: Ssh,
        give_up_after_s: float,
        again: str,
        on_progress: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.again = again
        self.n_breaks = 0
        self._ssh = ssh
        self._give_up_after_s = give_up_after_s
        self._on_progress = on_progress
        self._clock = clock
        self._sleep = sleep
        self._pauses = _pauses()
        self._stuck_since: float | None = None

    def progressed(self) -> None:
        """Say that something arrived: the limit counts from the next break again."""
        self._stuck_since = None
        self._pauses = _pauses()

    def keep_trying(self, step: Callable[[], Result]) -> Result:
        """The result of a step, however often the connection breaks under it.

        Raises:
            BoardError: The board did not come back in time, or the cause will not pass.
        """
        while True:
            try:
                return step()
            except ConnectionLost as lost:
                self.n_breaks += 1
                self._reconnect(lost)

    def _reconnect(self, lost: ConnectionLost) -> None:
        if self._stuck_since is None:
            self._stuck_since = self._clock()
        while self._clock() - self._stuck_since < self._give_up_after_s:
            pause = next(self._pauses)
            self._on_progress(f"{lost.message.rstrip('.')}; trying again in {pause:g} s")
            self._sleep(pause)
            try:
                return self._ssh.connect()
            except ConnectionLost as error:
                lost = error
        raise BoardError(
            f"the connection to '{self._ssh.host}' broke, and it did not come back within "
            f"{self._give_up_after_s:g} s: {lost.message}",
            lost.note,
            f"what runs there is not disturbed; this goes on from here: {self.again}",
        )


def _pauses() -> Iterator[float]:
    """Seconds: 1, 2, 4, 8, 15, 15, ..."""
    return (min(2.0**n, _LONGEST_PAUSE_S) for n in itertools.count())
