"""A whole server for the socket from its parts, and its end in good order.

The one idea: what begins in one order ends in the other: the model's sessions are closed last, when
no client can ask for anything any more. ``web.service`` is the same for HTTP.
"""

import contextlib
from typing import Callable, Iterator, List, Optional

from merino_edge.runtime.serving.power import metering
from merino_edge.runtime.serving.scheduler import Limits, Scheduler
from merino_edge.runtime.serving.socket_server import SocketServer
from merino_edge.runtime.session import GenerationSession


@contextlib.contextmanager
def serving_socket(
    sessions: List[GenerationSession],
    path: str,
    limits: Optional[Limits] = None,
    root: str = "/",
    on_note: Callable[[str], None] = lambda text: None,
) -> Iterator[Scheduler]:
    """Serve sessions at a path while the block runs; they are closed at its end.

    Args:
        sessions: Of one bundle.
        path: Where the socket is to be.
        limits: Of the queue.
        root: Where the machine's files begin, for power.
        on_note: Told of what is worth a log, and of bugs of ours, with a traceback.

    Yields:
        The scheduler; ``stop`` lets what runs end first.

    Raises:
        UsageError: The path cannot be a socket, or somebody listens there.
    """
    with contextlib.ExitStack() as ending:
        meter = ending.enter_context(metering(root))
        scheduler = ending.enter_context(Scheduler(sessions, limits, None, meter, on_fault=on_note))
        ending.enter_context(SocketServer(scheduler, path, on_note=on_note))
        yield scheduler
