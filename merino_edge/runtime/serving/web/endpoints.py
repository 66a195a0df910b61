"""Which path does what.

The one idea: a table of paths, each with its method, whether strangers may use it, and a function
from a ``Call`` to a ``Reply``. Nothing here touches a socket.
"""

import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

from merino_edge.errors import MerinoError
from merino_edge.runtime.serving.job import Request
from merino_edge.runtime.serving.measures import Measures
from merino_edge.runtime.serving.metrics import CONTENT_TYPE
from merino_edge.runtime.serving.scheduler import Scheduler
from merino_edge.runtime.serving.web import access, page
from merino_edge.runtime.serving.web.answering import reply_to
from merino_edge.runtime.serving.web.asked import Asked, chat_of, completion_of
from merino_edge.runtime.serving.web.json_body import json_of
from merino_edge.runtime.serving.web.limits import WebLimits
from merino_edge.runtime.serving.web.problem import Problem, problem_of
from merino_edge.runtime.serving.web.reply import Call, Reply
from merino_edge.runtime.serving.web.written import Writing, json_bytes

JSON = "application/json"


class Endpoint(NamedTuple):
    """What a path does.

    Attributes:
        path: As the client writes it.
        method: "GET" or "POST".
        is_open: Whether it is answered without a token.
        answer: How.
    """

    path: str
    method: str
    is_open: bool
    answer: Callable[[Call], Reply]


class Api:
    """All paths of one server.

    Args:
        scheduler: Runs the model.
        measures: Its observer.
        fingerprint: Of the bundle's files.
        tokens: Of which a client must show one; empty for this machine only.
        limits: Of the HTTP side.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        measures: Measures,
        fingerprint: str,
        tokens: Sequence[str] = (),
        limits: Optional[WebLimits] = None,
    ):
        self.scheduler, self.measures = scheduler, measures
        self.limits = limits or WebLimits()
        self._fingerprint, self._tokens = fingerprint, tuple(tokens)
        self._manifest = scheduler.sessions[0].manifest
        self._begun_s = int(time.time())
        self._endpoints: Dict[str, Endpoint] = {each.path: each for each in self._table()}

    def _table(self) -> List[Endpoint]:
        return [
            Endpoint("/", "GET", True, self._page),
            Endpoint("/health", "GET", True, self._health),
            Endpoint("/metrics", "GET", False, self._metrics),
            Endpoint("/v1/models", "GET", False, self._models),
            Endpoint("/v1/models/" + self._manifest.name, "GET", False, self._model),
            Endpoint("/v1/completions", "POST", False, self._completions),
            Endpoint("/v1/chat/completions", "POST", False, self._chat),
        ]

    def endpoint(self, method: str, path: str) -> Endpoint:
        """What is asked for.

        Raises:
            Problem: 404 or 405.
        """
        found = self._endpoints.get(path.partition("?")[0])
        if found is None:
            raise Problem(404, "there is nothing at this path.", "not_found")
        if method != found.method and (method, found.method) != ("HEAD", "GET"):
            raise Problem(
                405,
                "{} takes {} only.".format(found.path, found.method),
                "method_not_allowed",
                headers={"Allow": found.method},
            )
        return found

    def admit(self, endpoint: Endpoint, headers: Mapping[str, str], address: str) -> str:
        """Whose request it is.

        Raises:
            Problem: 401 or 403.
        """
        if not self._tokens:
            access.check_host(headers)
            return address
        if endpoint.is_open:
            return address
        return "{} {}".format(access.client_of(headers, self._tokens), address)

    def label(self, path: str) -> str:
        """A path's name in the figures: few, whatever strangers ask for."""
        return path.partition("?")[0] if path.partition("?")[0] in self._endpoints else "other"

    def _page(self, call: Call) -> Reply:
        return Reply(200, "text/html; charset=utf-8", page.PAGE, page.HEADERS)

    def _health(self, call: Call) -> Reply:
        is_well = self.scheduler.is_well
        status = {"status": "ok" if is_well else "unavailable"}
        return Reply(200 if is_well else 503, JSON, json_bytes(status) + b"\n")

    def _metrics(self, call: Call) -> Reply:
        return Reply(200, CONTENT_TYPE, self.measures.text(self.scheduler).encode("utf-8"))

    def _models(self, call: Call) -> Reply:
        return Reply(200, JSON, json_bytes({"object": "list", "data": [self._about()]}) + b"\n")

    def _model(self, call: Call) -> Reply:
        return Reply(200, JSON, json_bytes(self._about()) + b"\n")

    def _about(self) -> Dict[str, Any]:
        backend = self.scheduler.sessions[0].backend
        return {
            "id": self._manifest.name,
            "object": "model",
            "created": self._begun_s,
            "owned_by": "merino-edge",
            "context_len": backend.context_len,
            "backend": backend.name,
            "precision": self._manifest.precision,
            "n_params": self._manifest.n_params,
            "can_chat": self._manifest.chat is not None,
            "power_w": self.measures.watts,
        }

    def _completions(self, call: Call) -> Reply:
        fields = self._fields(call)
        return self._generate(call, completion_of(fields, self._manifest.generation), False)

    def _chat(self, call: Call) -> Reply:
        fields = self._fields(call)
        context_len = self.scheduler.sessions[0].context_len
        return self._generate(call, chat_of(fields, self._manifest.generation, context_len), True)

    def _fields(self, call: Call) -> Dict[str, Any]:
        fields = json_of(call.body)
        model = fields.get("model", self._manifest.name)
        if model != self._manifest.name:
            text = "the model here is '{}'.".format(self._manifest.name)
            raise Problem(404, text, "model_not_found", "model")
        return fields

    def _generate(self, call: Call, asked: Asked, is_chat: bool) -> Reply:
        client = "{} {}".format(call.client, asked.user)
        request = Request(asked.prompt, asked.config, client, self.limits.request_s)
        try:
            ticket = self.scheduler.submit(request)
        except MerinoError as error:
            raise problem_of(error)
        writing = Writing(is_chat, self._manifest.name, self._fingerprint, asked.with_ids)
        return reply_to(call, ticket, asked, writing)
