"""What a search found, and the file that keeps it.

The one idea: the file is a function of the question. Same space, budget, target and seed give the
same bytes, with any number of workers, so it holds no times and no dates. It carries the winner
under ``"architecture"``, which is where every other command looks for one.
"""

from typing import Any, NamedTuple

from merino_edge.core.budget import Budget
from merino_edge.core.cost import WorkPoint
from merino_edge.errors import FormatError
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture
from merino_edge.search.candidate import Candidate
from merino_edge.search.config import SearchConfig
from merino_edge.search.exact import Certificate

SCHEMA = "merino-edge.search/2"


class Step(NamedTuple):
    """Where a search stands after a generation.

    Attributes:
        generation: Generations so far.
        n_evaluated: Candidates scored so far.
        n_fitting: Survivors that keep the budget.
        best_total: The objective of the best so far; nats for the entropy.
    """

    generation: int
    n_evaluated: int
    n_fitting: int
    best_total: float


class SeedRun(NamedTuple):
    """How one seed went.

    Attributes:
        seed: Of its chances.
        vocab_size: Of the members that it looked at.
        arch_id: What it found.
        best_total: With this objective.
        history: Generations in which the best changed, and the last.
    """

    seed: int
    vocab_size: int
    arch_id: str
    best_total: float
    history: tuple[Step, ...]


class Ancestor(NamedTuple):
    """A forefather of the winner.

    Attributes:
        generation: In which it was met.
        architecture: What it was.
        total: Its objective.
        excess: Sum of its relative excesses over the limits; 0 for what fits.
    """

    generation: int
    architecture: Architecture
    total: float
    excess: float


class Neighbour(NamedTuple):
    """A member one gene away from the winner: its violations or its entropy say why it lost.

    Attributes:
        change: In words.
        candidate: What it would be.
    """

    change: str
    candidate: Candidate


class PartShare(NamedTuple):
    """What one part of the winner contributes.

    Attributes:
        name: "block 1", "joints", "embedding and head".
        entropy: In nats, before the effectiveness.
        n_params: Stored.
        prefill_flops: As the budget counts them.
        latency_ms: Of one generated token; None where it is not known.
    """

    name: str
    entropy: float
    n_params: int
    prefill_flops: int
    latency_ms: float | None


class FrontPoint(NamedTuple):
    """The best under one limit on the front's axis.

    Attributes:
        limit: On the axis.
        candidate: The best that was found.
        gap: How far it can be below the best there is; None where it was not proven.
    """

    limit: float
    candidate: Candidate
    gap: float | None


class Front(NamedTuple):
    """Entropy against one cost: no point is beaten in both.

    Attributes:
        axis: Name of the cost, as in ``CostReport``.
        points: Ascending on both.
    """

    axis: str
    points: tuple[FrontPoint, ...]


class Trial(NamedTuple):
    """A survivor of the last generation; not kept in the result's file.

    Attributes:
        seed: Of its evolution.
        number: The how manyeth candidate it was.
        parent: Number of its parent; -1 for the first generation.
        generation: In which it was met.
        candidate: The whole record.
    """

    seed: int
    number: int
    parent: int
    generation: int
    candidate: Candidate


class SearchResult(NamedTuple):
    """The best candidate and how it was found.

    Attributes:
        best: It keeps the budget; a search that finds nothing raises instead.
        runners_up: The next ones that differ from it, and from each other, in entropy.
        certificate: How far the best can be from the best there is; None where nothing is proven.
        parts: What each part of the best contributes.
        neighbours: Members one gene away.
        lineage: Forefathers of the best, oldest first; empty for the exact method.
        seeds: How each seed went; empty for the exact method.
        front: Entropy against a cost, if it was asked for.
        config: How it was searched.
        budget: The limits.
        at: Where costs are quoted.
        space: Name of the space.
        target: Name of the target.
        n_evaluated: Candidates scored by all seeds.
        elapsed_s: Wall time; None when read from a file, which does not keep it.
        certificate_s: The part of it that the proof took; None likewise.
        trials: Survivors; empty when read from a file.
    """

    best: Candidate
    runners_up: tuple[Candidate, ...]
    certificate: Certificate | None
    parts: tuple[PartShare, ...]
    neighbours: tuple[Neighbour, ...]
    lineage: tuple[Ancestor, ...]
    seeds: tuple[SeedRun, ...]
    front: Front | None
    config: SearchConfig
    budget: Budget
    at: WorkPoint
    space: str
    target: str
    n_evaluated: int
    elapsed_s: float | None = None
    certificate_s: float | None = None
    trials: tuple[Trial, ...] = ()

    def without_run(self) -> "SearchResult":
        """What the file keeps: without times and trials."""
        return self._replace(elapsed_s=None, certificate_s=None, trials=())

    def to_document(self) -> dict[str, Any]:
        """The file's content as plain JSON values."""
        body = jsonio.encode(self.without_run())
        for name in ("elapsed_s", "certificate_s", "trials"):
            del body[name]
        architecture = body["best"].pop("architecture")
        return {"schema": SCHEMA, "architecture": architecture, **body}

    def save(self, path: str) -> None:
        """Write the file, atomically.

        Raises:
            OSError: It cannot be written; an old file is untouched.
        """
        jsonio.write_bytes_atomic(path, jsonio.dumps(self.to_document()).encode("utf-8"))

    @classmethod
    def load(cls, path: str) -> "SearchResult":
        """Read the file back.

        Raises:
            FormatError: Not such a file; names the field.
            SchemaVersionError: Written by a version with another schema.
        """
        document = jsonio.read_json(path)
        jsonio.check_schema(document, SCHEMA, path)
        body = {name: value for name, value in document.items() if name != "schema"}
        if not isinstance(body.get("best"), dict) or "architecture" not in body:
            raise FormatError("missing field.", path, "architecture")
        body["best"] = {"architecture": body.pop("architecture"), **body["best"]}
        result: SearchResult = jsonio.decode(cls, body, path)
        return result
