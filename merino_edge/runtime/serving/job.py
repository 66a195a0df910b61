"""What a client asks for, and what it gets back while it waits.

The one idea: a Ticket is a mailbox. The thread that runs the model drops events in and never waits
for a reader; a reader takes them out at its own speed. The last event is always one End.
"""

import queue
import time
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Union

from merino_edge.errors import MerinoError
from merino_edge.runtime.sampling import GenerationConfig

Messages = List[Dict[str, str]]
Clock = Callable[[], float]


class Request(NamedTuple):
    """One text to continue.

    Attributes:
        prompt: Text; or token ids, used as they are; or a conversation of {"role", "content"}.
        config: How; ``eos_token_ids`` None for those of the bundle.
        client: Whose it is; the queue is fair between clients.
        limit_s: Seconds from now until it must have ended, waiting included; None for no limit.
    """

    prompt: Union[str, Sequence[int], Messages]
    config: GenerationConfig
    client: str = ""
    limit_s: Optional[float] = None


class Usage(NamedTuple):
    """What a request took.

    Attributes:
        n_prompt: Tokens of the prompt.
        n_generated: Tokens that were given out.
        queue_ms: From asking until a session was free; None if none ever was.
        ttft_ms: From asking to the first token; None if there was none.
        decode_ms: From the first token to the last, as the client saw it; None below two tokens.
        busy_ms: The time of its own steps, without those of others in between.
        energy_j: The board's mean power while it ran, times ``busy_ms``, so that the energies of
            requests that run together add up to the board's; None where no power is measured.
    """

    n_prompt: int
    n_generated: int
    queue_ms: Optional[float] = None
    ttft_ms: Optional[float] = None
    decode_ms: Optional[float] = None
    busy_ms: float = 0.0
    energy_j: Optional[float] = None

    @property
    def decode_tok_per_s(self) -> Optional[float]:
        """Tokens a second after the first; None where there were not two."""
        if not self.decode_ms or self.n_generated < 2:
            return None
        return 1e3 * (self.n_generated - 1) / self.decode_ms

    @property
    def energy_mj_per_token(self) -> Optional[float]:
        """Energy of prompt and answer, for each token of the answer; None if not measured."""
        if self.energy_j is None or not self.n_generated:
            return None
        return 1e3 * self.energy_j / self.n_generated


class Piece(NamedTuple):
    """Something new: tokens, and the text that they made certain (whole characters, or "")."""

    text: str
    token_ids: List[int]


class End(NamedTuple):
    """The last event.

    Attributes:
        reason: "stop", "length", "cancelled", "deadline", "stopping" or "error".
        usage: Counts and times.
        error: What went wrong, with reason "error".
    """

    reason: str
    usage: Usage
    error: Optional[MerinoError] = None


Event = Union[Piece, End]


class Ticket:
    """A request that was taken on.

    Attributes:
        request: What was asked.
        ids: Its prompt as token ids.
        asked_s: When, by the scheduler's clock.
        end: The End, once it is out; None before.
    """

    def __init__(
        self,
        request: Request,
        ids: List[int],
        on_cancel: Callable[["Ticket"], None],
        clock: Clock = time.perf_counter,
    ):
        self.request, self.ids = request, ids
        self.asked_s = clock()
        self.end: Optional[End] = None
        self.is_cancelled = False
        self._on_cancel = on_cancel
        self._events: queue.Queue[Event] = queue.Queue()

    @property
    def deadline_s(self) -> float:
        """When it must have ended, by the same clock; infinity for never."""
        limit_s = self.request.limit_s
        return float("inf") if limit_s is None else self.asked_s + limit_s

    def next_event(self, timeout_s: Optional[float] = None) -> Optional[Event]:
        """The next event; None if none came in time.

        Args:
            timeout_s: Seconds; 0 for what is there already, None to wait as long as it takes.
        """
        try:
            return self._events.get(timeout_s != 0, timeout_s or None)
        except queue.Empty:
            return None

    def events(self) -> Iterator[Event]:
        """All events that were not read yet; the End is the last. For one reader."""
        while True:
            event = self._events.get()
            yield event
            if isinstance(event, End):
                return

    def cancel(self) -> None:
        """Nobody wants the rest. From any thread, and as often as one likes."""
        if not self.is_cancelled and self.end is None:
            self.is_cancelled = True
            self._on_cancel(self)

    def give(self, event: Event) -> None:
        """Drop an event in; the scheduler's business."""
        if isinstance(event, End):
            self.end = event
        self._events.put(event)
