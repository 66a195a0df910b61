"""A whole server from its parts, and its end in good order.

The one idea: what begins in one order ends in the other: first nobody new comes in, then what runs
ends with its reason, then the answers go out, and only then is the model let go.
"""

import contextlib
from typing import Callable, Iterator, List, Optional, Sequence

from merino_edge.runtime.serving.measures import Measures
from merino_edge.runtime.serving.power import metering
from merino_edge.runtime.serving.scheduler import Limits, Scheduler
from merino_edge.runtime.serving.web.access import check_binding
from merino_edge.runtime.serving.web.endpoints import Api
from merino_edge.runtime.serving.web.limits import WebLimits
from merino_edge.runtime.serving.web.server import Server
from merino_edge.runtime.session import GenerationSession

LAST_ANSWERS_S = 2.0  # for answers that are on their way when everything has ended


class Service:
    """A server that runs.

    Attributes:
        server: Its HTTP side.
        scheduler: Its model side.
        measures: Its figures.
    """

    def __init__(self, server: Server, scheduler: Scheduler, measures: Measures):
        self.server, self.scheduler, self.measures = server, scheduler, measures

    def stop(self, grace_s: float = 0.0) -> None:
        """Nobody new; what runs may go on for so long; the last answers go out."""
        self.server.stop_accepting()
        self.scheduler.stop(grace_s)
        self.server.hang_up()
        self.server.wait_until_idle(LAST_ANSWERS_S)


@contextlib.contextmanager
def serving(
    sessions: List[GenerationSession],
    fingerprint: str,
    host: str = "127.0.0.1",
    port: int = 0,
    tokens: Sequence[str] = (),
    limits: Optional[Limits] = None,
    web_limits: Optional[WebLimits] = None,
    root: str = "/",
    on_fault: Callable[[str], None] = lambda text: None,
) -> Iterator[Service]:
    """Serve sessions while the block runs; they are closed at its end.

    Args:
        sessions: Of one bundle.
        fingerprint: Of its files, for clients.
        host: To bind.
        port: To bind; 0 for any that is free.
        tokens: Of which a client must show one; empty for this machine only.
        limits: Of the queue.
        web_limits: Of HTTP.
        root: Where the machine's files begin, for power and temperature.
        on_fault: Told, with a traceback, of what is a bug of ours.

    Raises:
        UsageError: The address is not this machine's alone, and there is no token.
        OSError: It cannot be bound.
    """
    check_binding(host, tokens)
    with contextlib.ExitStack() as ending:
        meter = ending.enter_context(metering(root))
        measures = Measures(meter, root)
        scheduler = ending.enter_context(
            Scheduler(sessions, limits, measures, meter, on_fault=on_fault)
        )
        api = Api(scheduler, measures, fingerprint, tokens, web_limits)
        server = Server(host, port, api, on_fault)
        service = Service(server, scheduler, measures)
        ending.callback(service.stop)
        server.start()
        yield service
