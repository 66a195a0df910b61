"""Reading from a socket within a time and a number of bytes, however the bytes drip in.

The one idea: a timeout of a socket begins anew with every byte, so a client that sends one a second
never meets it. Here the time is that of a whole part of the request, and each ``recv`` gets what is
left of it.
"""

import io
import socket
import time
from typing import Any


class TimeUpError(Exception):
    """The part did not come in time."""


class TooMuchError(Exception):
    """The part is larger than it may be."""


class DeadlineReader(io.RawIOBase):
    """A raw stream for ``io.BufferedReader``; ``begin`` comes before each part."""

    def __init__(self, connection: socket.socket):
        super().__init__()
        self._connection = connection
        self._end_s, self._left_bytes = 0.0, 0

    def begin(self, seconds: float, most_bytes: int) -> None:
        """So long, and so much, for what is read from now on."""
        self._end_s, self._left_bytes = time.monotonic() + seconds, most_bytes

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """What has come; 0 at the end of the stream.

        Raises:
            TimeUpError: Nothing came in the time that was left.
            TooMuchError: All bytes that were allowed have been read.
            OSError: The connection broke.
        """
        left_s = self._end_s - time.monotonic()
        if left_s <= 0.0:
            raise TimeUpError
        if self._left_bytes <= 0:
            raise TooMuchError
        self._connection.settimeout(left_s)
        try:
            n = self._connection.recv_into(buffer, min(len(buffer), self._left_bytes))
        except socket.timeout:
            raise TimeUpError
        self._left_bytes -= n
        return n
