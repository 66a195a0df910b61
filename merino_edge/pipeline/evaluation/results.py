"""What an evaluation found: a JSON file with everything that is needed to believe it.

A figure without its conditions cannot be compared: each task says how it was got and from which
bytes, and the file names the model, what computed, the versions, the machine and how quiet it was.
"""

from typing import Any, NamedTuple

from merino_edge.formats import jsonio
from merino_edge.formats.measurement import Conditions, DeviceInfo

SCHEMA = "merino-edge.evaluation/1"


class ModelFacts(NamedTuple):
    """What was scored.

    Attributes:
        name: Of its folder.
        kind: "checkpoint" or "bundle".
        id: SHA-256 of a checkpoint's weights, or a bundle's id.
        architecture: In one line.
        n_params: Stored weights.
        precision: Of the weights.
        computed_by: Backend and library, with threads.
        context_len: Tokens that it reads at once.
        tokenizer_sha256: Of the tokenizer's file.
    """

    name: str
    kind: str
    id: str
    architecture: str
    n_params: int
    precision: str
    computed_by: str
    context_len: int
    tokenizer_sha256: str


class Metric(NamedTuple):
    """A figure.

    Attributes:
        value: The figure.
        stderr: Its standard error; None where none can be told.
    """

    value: float
    stderr: float | None = None


class TaskResult(NamedTuple):
    """One task.

    Attributes:
        name: As it was asked for.
        how: How the figures were got, in words.
        metrics: By name.
        n_items: Questions, or windows of a text.
        n_items_in_all: That the files hold.
        n_requests: Continuations that were scored.
        n_truncated: Of them, those whose context was cut from the left.
        n_from_journal: Of them, those that an interrupted run had scored.
        scoring_s: Seconds that the rest took.
        files: Path of each data file, below the data folder -> its SHA-256.
        settings: What else the figures depend on.
    """

    name: str
    how: str
    metrics: dict[str, Metric]
    n_items: int
    n_items_in_all: int
    n_requests: int
    n_truncated: int
    n_from_journal: int
    scoring_s: float
    files: dict[str, str]
    settings: dict[str, Any] = {}


class Evaluation(NamedTuple):
    """A whole evaluation.

    Attributes:
        date: When it began, UTC.
        model: What was scored.
        tasks: In the order they were asked for.
        versions: Of what computes and of what asks.
        machine: Where.
        conditions: How quiet it was.
    """

    date: str
    model: ModelFacts
    tasks: list[TaskResult]
    versions: dict[str, str | None]
    machine: DeviceInfo
    conditions: Conditions


class Item(NamedTuple):
    """One question, for comparing two models question by question.

    Attributes:
        task: Its name.
        item: The question's number in its file.
        log_likelihoods: Of each choice.
        choice: The likeliest.
        metrics: As the task judges it.
    """

    task: str
    item: int
    log_likelihoods: list[float]
    choice: int
    metrics: dict[str, Any]


def write_items(path: str, items: list[Item]) -> None:
    """One JSON object a line, atomically."""
    import json

    lines = [json.dumps(jsonio.encode(item)) for item in items]
    jsonio.write_bytes_atomic(path, ("\n".join(lines) + "\n").encode("utf-8"))
