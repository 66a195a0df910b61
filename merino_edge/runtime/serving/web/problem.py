"""Why a request is not answered, in the words and the JSON of OpenAI's API.

The one idea: an error's class decides the status, in one place. What the client can mend is 4xx;
503 says "later"; 500 is a fault of this machine or a bug of ours.
"""

import json
from typing import Any, Dict, Optional, Tuple

from merino_edge.errors import (
    BusyError,
    MerinoError,
    SessionError,
    SpecError,
    UnsupportedError,
    UsageError,
)
from merino_edge.runtime.serving.job import End
from merino_edge.runtime.serving.web.reply import Reply

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_BUSY = {
    "client": (429, "rate_limit_exceeded"),
    "queue": (503, "queue_full"),
    "stopping": (503, "server_stopping"),
}
_MENDABLE = (SessionError, SpecError, UnsupportedError, UsageError)


class Problem(Exception):
    """A request that ends in an error.

    Args:
        status: Of HTTP.
        message: One sentence or two, for people.
        code: For programs.
        param: The field of the request that is wrong, if one is.
        headers: More headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        param: Optional[str] = None,
        headers: Optional[Dict[str, str]] = None,
    ):
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = headers or {}

    def document(self) -> Dict[str, Any]:
        """What OpenAI's clients read."""
        default = "invalid_request_error" if self.status < 500 else "server_error"
        kind = _TYPES.get(self.status, default)
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def reply(self) -> Reply:
        """The answer that says so."""
        body = json.dumps(self.document()).encode("utf-8") + b"\n"
        return Reply(self.status, "application/json", body, self.headers)


def problem_of(error: MerinoError) -> Problem:
    """An error of ours, as HTTP says it."""
    message = " ".join(filter(None, (error.message, error.hint)))
    if isinstance(error, BusyError):
        status, code = _BUSY[error.reason]
        later = {"Retry-After": str(int(error.retry_after_s + 0.5) or 1)}
        return Problem(status, message, code, headers=later)
    if isinstance(error, _MENDABLE):
        code = "unsupported" if isinstance(error, UnsupportedError) else "invalid_request"
        return Problem(400, message, code, getattr(error, "field", "") or None)
    return Problem(500, message, "server_error")


def problem_of_end(end: End) -> Optional[Problem]:
    """What is wrong with a generation that ended so; None for one that is an answer."""
    if end.reason == "error" and end.error is not None:
        return problem_of(end.error)
    if end.reason == "stopping":
        return problem_of(BusyError("the server is stopping.", "stopping", 10.0))
    if end.reason == "cancelled":  # nobody reads this, unless the client only seemed to be gone
        return Problem(499, "the client closed the connection.", "client_closed_request")
    if end.reason == "deadline" and not end.usage.n_generated:
        text = "no token came within the time limit of a request."
        return Problem(503, text, "deadline_exceeded", headers={"Retry-After": "5"})
    return None


def wrong(param: str, message: str) -> Problem:
    """A field of the request that cannot be as it is."""
    return Problem(400, "{} {}".format(param, message), "invalid_value", param)


def refused_fields(unknown: Tuple[str, ...]) -> Problem:
    """Fields that this server does not know, named rather than ignored."""
    return Problem(
        400, "there is no field '{}' here.".format(unknown[0]), "unknown_field", unknown[0]
    )
