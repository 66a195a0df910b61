"""Who is next: first come, first served within a client, and turns between clients.

The one idea: a free session goes to the client that has the fewest running, and among equals to the
one that was served longest ago. Whoever sends a hundred requests waits for himself; whoever sends
one waits for at most one of each other client. What may wait is bounded, for each client and for
all together. Not for two threads at once: the scheduler holds its lock.
"""

from collections import OrderedDict, deque
from typing import Deque, List, Mapping, Optional

from merino_edge.errors import BusyError
from merino_edge.runtime.serving.job import Ticket


class FairQueue:
    """Tickets that wait.

    Args:
        most: Tickets that may wait.
        most_of_one: Tickets of one client that may.
    """

    def __init__(self, most: int, most_of_one: int):
        self._most, self._most_of_one = most, most_of_one
        # in the order of their turns; a client without tickets is not in it
        self._waiting: OrderedDict[str, Deque[Ticket]] = OrderedDict()
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def check_room(self, client: str) -> None:
        """Nothing, if one more of this client may wait.

        Raises:
            BusyError: With reason "queue" or "client".
        """
        if self._n >= self._most:
            raise BusyError(
                "{} requests are waiting, no more may.".format(self._n),
                "queue",
                hint="ask again later, or serve with a larger --queue.",
            )
        if len(self._waiting.get(client, ())) >= self._most_of_one:
            raise BusyError(
                "{} requests of this client are waiting, no more may.".format(self._most_of_one),
                "client",
                hint="wait for an answer before asking more, or serve with a larger "
                "--queue-per-client.",
            )

    def put(self, ticket: Ticket) -> None:
        """Wait; after ``check_room``."""
        self._waiting.setdefault(ticket.request.client, deque()).append(ticket)
        self._n += 1

    def take(self, n_running: Mapping[str, int]) -> Optional[Ticket]:
        """The next one, which does not wait any more; None if nobody does.

        Args:
            n_running: Client -> requests of his that run now.
        """
        if not self._waiting:
            return None
        client = min(self._waiting, key=lambda name: n_running.get(name, 0))  # the first of equals
        ticket = self._waiting[client].popleft()
        self._waiting.move_to_end(client)
        self._forget_if_empty(client)
        self._n -= 1
        return ticket

    def remove(self, ticket: Ticket) -> bool:
        """Take one out of turn; False if it was not waiting."""
        client = ticket.request.client
        if ticket not in self._waiting.get(client, ()):
            return False
        self._waiting[client].remove(ticket)
        self._forget_if_empty(client)
        self._n -= 1
        return True

    def all(self) -> List[Ticket]:
        """Everyone who waits."""
        return [ticket for tickets in self._waiting.values() for ticket in tickets]

    def _forget_if_empty(self, client: str) -> None:
        if not self._waiting[client]:
            del self._waiting[client]
