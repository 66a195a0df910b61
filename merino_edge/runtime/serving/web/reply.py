"""One request and its answer, as values: what the endpoints see of HTTP."""

from typing import Callable, Dict, Iterator, Mapping, NamedTuple, Union


class Call(NamedTuple):
    """A request that may be answered.

    Attributes:
        client: Whose it is: token and address.
        body: Bytes, all of them; b"" with GET.
        is_gone: Whether the client closed its side; costs a few microseconds.
    """

    client: str
    body: bytes
    is_gone: Callable[[], bool]


class Reply(NamedTuple):
    """An answer.

    Attributes:
        status: Of HTTP.
        content_type: Of the body.
        body: Bytes; or parts, which are sent as they come. A part b"" sends nothing and only gives
            the occasion to see whether the client is still there. An iterator is closed whatever
            happens.
        headers: More headers.
    """

    status: int
    content_type: str
    body: Union[bytes, Iterator[bytes]]
    headers: Mapping[str, str] = {}


Headers = Dict[str, str]
