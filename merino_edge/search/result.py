"""What a search found, and the file that keeps it.

The one idea: the file is a function of the question. Same space, budget, target and seed give the
same bytes, so it holds no times and no dates. It carries the winner under ``"architecture"``,
which is where every other command looks for one.
"""

from typing import Any, NamedTuple

from merino_edge.core.budget import Budget
from merino_edge.core.cost import WorkPoint
from merino_edge.errors import FormatError
from merino_edge.formats import jsonio
from merino_edge.search.candidate import Candidate
from merino_edge.search.config import SearchConfig

SCHEMA = "merino-edge.search/1"


class Step(NamedTuple):
    """Where a search stands after a generation.

    Attributes:
        generation: Generations so far.
        n_evaluated: Candidates scored so far.
        n_fitting: Survivors that keep the budget.
        best_total: Entropy times effectiveness of the best so far, in nats.
    """

    generation: int
    n_evaluated: int
    n_fitting: int
    best_total: float


class SearchResult(NamedTuple):
    """The best candidate and how it was found.

    Attributes:
        best: It keeps the budget; a search that finds nothing raises instead.
        runners_up: The next ones that differ from it, and from each other, in entropy.
        history: Generations in which the best changed, and the last.
        config: How it was searched.
        budget: The limits.
        at: Where costs are quoted.
        space: Name of the space.
        target: Name of the target.
        n_evaluated: Candidates scored.
        elapsed_s: Wall time; None when read from a file, which does not keep it.
    """

    best: Candidate
    runners_up: tuple[Candidate, ...]
    history: tuple[Step, ...]
    config: SearchConfig
    budget: Budget
    at: WorkPoint
    space: str
    target: str
    n_evaluated: int
    elapsed_s: float | None = None

    def to_document(self) -> dict[str, Any]:
        """The file's content as plain JSON values."""
        body = jsonio.encode(self)
        del body["elapsed_s"]
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
