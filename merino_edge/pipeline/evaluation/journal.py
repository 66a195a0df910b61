"""Scores that are known already, on disk, so that a long evaluation can be interrupted.

The one idea: a request's key is made of its token ids, so a score belongs to what was asked, not to
a place in a list. Another task, another limit or another order of the same questions finds what is
there; a changed text or tokenizer asks something else and finds nothing. What the key cannot know,
which model answers and what computes, stands in the header, and another one is refused.

Lines are synced at most once a second; a last line that was cut off is dropped.
"""

import json
import os
import time
from typing import Any, NamedTuple

from merino_edge.errors import FormatError, UsageError
from merino_edge.formats import jsonio
from merino_edge.pipeline.evaluation.requests import Request, Score
from merino_edge.pipeline.evaluation.results import ModelFacts

SCHEMA = "merino-edge.evaluation-journal/1"
SYNC_EVERY_S = 1.0


class Header(NamedTuple):
    """The first line.

    Attributes:
        schema: Of the file.
        model: Its id.
        computed_by: Backend and precision.
    """

    schema: str
    model: str
    computed_by: str


class _Line(NamedTuple):
    key: str
    log_likelihood: float
    is_greedy: bool


class Journal:
    """Known scores.

    Args:
        path: The file; None to remember nothing.
        model: Who answers.
        force: Begin anew.

    Raises:
        UsageError: The file belongs to another model, or to another way of computing.
        FormatError: A line is damaged.
    """

    def __init__(self, path: str | None, model: ModelFacts, force: bool = False):
        self.path = path
        self._known: dict[str, Score] = {}
        self._stream: Any = None
        self._synced = time.monotonic()
        if path is None:
            return
        header = Header(SCHEMA, model.id, f"{model.computed_by.split(' ')[0]} {model.precision}")
        if os.path.isfile(path) and not force:
            self._take_up(path, header)
        fresh = force or not os.path.isfile(path) or not os.path.getsize(path)
        self._stream = open(path, "w" if fresh else "a", encoding="utf-8")  # noqa: SIM115
        if fresh:
            self._stream.write(json.dumps(jsonio.encode(header)) + "\n")
            self.sync()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, request: Request) -> Score | None:
        """The score, if it is known."""
        return self._known.get(request.key) if self._known else None

    def add(self, request: Request, score: Score) -> None:
        """Keep a score."""
        if self._stream is None:
            return
        line = [request.key, score.log_likelihood, score.is_greedy]
        self._stream.write(json.dumps(line) + "\n")
        if time.monotonic() - self._synced > SYNC_EVERY_S:
            self.sync()

    def sync(self) -> None:
        """What was added is on the disk when this returns."""
        if self._stream is not None:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._synced = time.monotonic()

    def close(self, remove: bool = False) -> None:
        """Sync and close; ``remove`` when the result it led to is written."""
        if self._stream is not None:
            self.sync()
            self._stream.close()
            self._stream = None
            if remove and self.path is not None:
                os.unlink(self.path)

    def _take_up(self, path: str, header: Header) -> None:
        with open(path, "rb") as stream:
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            jsonio.write_bytes_atomic(path, whole)
        documents = [_parsed(text, path, i) for i, text in enumerate(whole.splitlines())]
        if not documents:
            return
        found = jsonio.decode(Header, documents[0], path, "line 1")
        if found != header:
            raise UsageError(
                f"'{path}' belongs to another evaluation: it holds scores of model "
                f"{found.model[:12]} by {found.computed_by}, this is {header.model[:12]} by "
                f"{header.computed_by}.",
                hint="name another -o, or begin anew with --force.",
            )
        for i, document in enumerate(documents[1:]):
            line = _line(document, path, i + 2)
            self._known[line.key] = Score(line.log_likelihood, line.is_greedy)


def _parsed(text: bytes, path: str, index: int) -> Any:
    try:
        return json.loads(text.decode("utf-8"))
    except ValueError as error:
        raise FormatError(
            f"line {index + 1} is not JSON: {error}.", path, hint="begin anew with --force."
        ) from error


def _line(document: Any, path: str, number: int) -> _Line:
    match document:
        case [str(key), float(value), bool(greedy)]:
            return _Line(key, value, greedy)
    raise FormatError(
        f"line {number} is not a score: {document!r}.", path, hint="begin anew with --force."
    )
