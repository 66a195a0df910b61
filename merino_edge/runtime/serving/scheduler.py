"""One thread, several sessions: each running request gets one portion of work in turn.

The one idea: a decoder that reads all its weights for one token gains nothing from two texts at
once, so nothing runs side by side; but a token takes milliseconds, so taking turns by tokens lets
everyone's text flow, and a short request overtakes a long one. One thread owns all sessions, so
they need no locks; the lock here guards only who waits.

The interface is told in the package's docstring. Nothing is known here of HTTP or of text formats.
"""

import collections
import threading
import time
import traceback
from typing import Any, Callable, List, NamedTuple, Optional

from merino_edge.errors import BusyError, MerinoError
from merino_edge.runtime.serving.fair_queue import FairQueue
from merino_edge.runtime.serving.job import Clock, End, Piece, Request, Ticket, Usage
from merino_edge.runtime.serving.power import PowerMeter
from merino_edge.runtime.serving.prompt_ids import prompt_ids
from merino_edge.runtime.serving.running import Running
from merino_edge.runtime.session import GenerationSession

CHUNK = 64  # tokens of a prompt in one turn: what others wait for at most, besides each other
LOOK_S = 0.1  # between two looks for deadlines in the queue
STUCK_S = 60.0  # a turn that takes longer is no turn any more


class Limits(NamedTuple):
    """What a scheduler takes on.

    Attributes:
        queue: Requests that may wait.
        queue_per_client: Requests of one client that may.
        prompt_tokens: Longest prompt; None for what the context holds.
        max_new_tokens: Longest answer; None for what the context holds.
    """

    queue: int = 64
    queue_per_client: int = 64
    prompt_tokens: Optional[int] = None
    max_new_tokens: Optional[int] = None


class Observer:
    """Is told what happens, in the thread in which it does; must be quick. Does nothing."""

    def given(self, running: Running, piece: Piece, since_s: float) -> None:
        """A token was given out, so long after the one before (or after asking)."""

    def ended(self, ticket: Ticket, end: End) -> None:
        """A request ended, whether it ever ran or not."""


class Scheduler:
    """Owns the sessions of one model and shares them fairly.

    Args:
        sessions: Free ones, of the same bundle; closed by ``close``.
        limits: What is taken on.
        observer: Is told what happens.
        meter: Of power, running; None where there is none.
        clock: Seconds.
        on_fault: Told, with a traceback, of what is a bug of ours.
    """

    def __init__(
        self,
        sessions: List[GenerationSession],
        limits: Optional[Limits] = None,
        observer: Optional[Observer] = None,
        meter: Optional[PowerMeter] = None,
        clock: Clock = time.perf_counter,
        on_fault: Callable[[str], None] = lambda text: None,
    ):
        self.sessions, self.limits = list(sessions), limits or Limits()
        self._observer, self._meter = observer or Observer(), meter
        self._clock, self._on_fault = clock, on_fault
        self._free = list(sessions)
        self._running: List[Running] = []
        self._queue = FairQueue(self.limits.queue, self.limits.queue_per_client)
        self._changed = threading.Condition()
        self._stopping, self._stop_at_s = False, float("inf")
        self._looked_s, self._turned_s = 0.0, clock()
        self._thread = threading.Thread(target=self._loop, name="scheduler", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Requests without a session."""
        return len(self._queue)

    @property
    def n_running(self) -> int:
        """Requests with one."""
        return len(self._running)

    @property
    def is_well(self) -> bool:
        """Whether requests are taken on and worked on."""
        is_stuck = bool(self._running) and self._clock() - self._turned_s > STUCK_S
        return self._thread.is_alive() and not self._stopping and not is_stuck

    def submit(self, request: Request) -> Ticket:
        """Take a request on.

        Raises:
            MerinoError: It cannot be run, ever (see the package's docstring).
            BusyError: It cannot be taken on now.
        """
        with self._changed:
            self._check_room(request)  # before the work of encoding
        ids = prompt_ids(self.sessions[0], request, self.limits.prompt_tokens)
        ticket = Ticket(self._cut(request), ids, self._cancel, self._clock)
        with self._changed:
            self._check_room(request)
            self._queue.put(ticket)
            self._changed.notify()
        return ticket

    def stop(self, grace_s: float = 0.0) -> None:
        """End everything; what runs may go on for so long. Returns when all is out."""
        with self._changed:
            self._stopping = True
            self._stop_at_s = min(self._stop_at_s, self._clock() + grace_s)
            waiting = self._queue.all()
            for ticket in waiting:
                self._queue.remove(ticket)
            self._changed.notify()
        for ticket in waiting:
            self._end(ticket, "stopping")
        self._thread.join()

    def close(self) -> None:
        """Stop, and free the sessions."""
        self.stop()
        for session in self.sessions:
            session.close()

    def __enter__(self) -> "Scheduler":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _check_room(self, request: Request) -> None:
        if self._stopping:
            raise BusyError("the server is stopping.", "stopping", retry_after_s=10.0)
        self._queue.check_room(request.client)

    def _cut(self, request: Request) -> Request:
        """With an answer no longer than the limit."""
        most, config = self.limits.max_new_tokens, request.config
        if most is None or config.max_new_tokens <= most:
            return request
        return request._replace(config=config._replace(max_new_tokens=most))

    def _cancel(self, ticket: Ticket) -> None:
        """One that runs is seen at its next turn; one that waits leaves now."""
        with self._changed:
            was_waiting = self._queue.remove(ticket)
        if was_waiting:
            self._end(ticket, "cancelled")

    def _loop(self) -> None:
        while self._wait_for_work():
            for running in list(self._running):
                self._turn(running)

    def _wait_for_work(self) -> bool:
        """False when there never will be any again."""
        with self._changed:
            while not self._running and not len(self._queue):
                if self._stopping:
                    return False
                self._set_busy(False)
                self._changed.wait()
            self._set_busy(True)
            late = self._late()
            while self._free and len(self._queue):
                self._admit()
        for ticket in late:
            self._end(ticket, "deadline")
        return True

    def _late(self) -> List[Ticket]:
        """Those whose time was over while they waited; they wait no more."""
        now_s = self._clock()
        if now_s - self._looked_s < LOOK_S:
            return []
        self._looked_s = now_s
        late = [ticket for ticket in self._queue.all() if now_s >= ticket.deadline_s]
        for ticket in late:
            self._queue.remove(ticket)
        return late

    def _admit(self) -> None:
        n_running = collections.Counter(r.ticket.request.client for r in self._running)
        ticket = self._queue.take(n_running)
        if ticket is not None:
            session = self._free.pop()
            self._running.append(Running(ticket, session, CHUNK, self._clock, self._meter))

    def _turn(self, running: Running) -> None:
        """One portion of one request, whatever comes of it."""
        self._turned_s = self._clock()
        reason = self._reason_to_end(running)
        if reason:
            return self._finish(running, reason)
        before_s = running.last_s or running.ticket.asked_s
        try:
            piece = running.step()
        except MerinoError as error:
            return self._finish(running, "error", error)
        except Exception:  # a bug of ours ends this request and no other
            self._on_fault(traceback.format_exc())
            fault = MerinoError("something broke inside the server; its log says more.")
            return self._finish(running, "error", fault)
        if piece is None:
            return self._finish(running, running.reason)
        if piece.token_ids:
            self._observer.given(running, piece, (running.last_s or before_s) - before_s)
            running.ticket.give(piece)
        return None

    def _reason_to_end(self, running: Running) -> str:
        now_s = self._clock()
        if running.ticket.is_cancelled:
            return "cancelled"
        if now_s >= running.ticket.deadline_s:
            return "deadline"
        return "stopping" if now_s >= self._stop_at_s else ""

    def _finish(self, running: Running, reason: str, error: Optional[MerinoError] = None) -> None:
        with self._changed:
            self._running.remove(running)
            self._free.append(running.session)
        rest = running.rest()
        if rest and reason != "error":
            running.ticket.give(Piece(rest, []))
        self._end(running.ticket, reason, running.usage(), error)

    def _end(
        self,
        ticket: Ticket,
        reason: str,
        usage: Optional[Usage] = None,
        error: Optional[MerinoError] = None,
    ) -> None:
        end = End(reason, usage or Usage(len(ticket.ids), 0), error)
        self._observer.ended(ticket, end)
        ticket.give(end)

    def _set_busy(self, busy: bool) -> None:
        if self._meter is not None:
            self._meter.set_busy(busy)
