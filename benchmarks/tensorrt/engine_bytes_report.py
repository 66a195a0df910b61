"""What ``engine_bytes.py`` found: the records of its JSON file, and the same as tables.

The one idea: what is compared are bytes of an engine and bytes of the parameters in half precision.
It words figures and builds nothing, so a page can be made where there is no torch.
"""

from typing import NamedTuple

from engines import Built, heading
from reports import Provenance

from merino_edge.cli.output import table

SCHEMA = "merino-edge.engine-bytes/1"
FIXED, SHIPPED = "decode takes exactly 1 token", "decode takes 1 or 2 tokens"


class Copies(NamedTuple):
    """How often a stored matrix lies in an engine, in rows as stored and turned."""

    matrix: str
    in_rows: int
    in_columns: int


class Engine(NamedTuple):
    """One way.

    Attributes:
        way: Its name.
        n_params: Stored by the decoder, with the vocabulary of this way.
        built: The engine.
        copies: Of the matrices of the first and the last block and outside of blocks; what has
            too little variety to be found (an identity) is left out.
    """

    way: str
    n_params: int
    built: Built
    copies: list[Copies]

    @property
    def twice(self) -> list[str]:
        """Matrices that lie there more than once."""
        return [c.matrix for c in self.copies if c.in_rows + c.in_columns > 1]

    @property
    def ratio(self) -> float | None:
        """Bytes over those of the stored parameters; None if there is no engine."""
        n_bytes = self.built.plan_bytes
        return None if n_bytes is None else n_bytes / (2 * self.n_params)


class Model(NamedTuple):
    """One decoder."""

    name: str
    engines: list[Engine]


class Report(NamedTuple):
    """What the JSON file holds."""

    provenance: Provenance
    seed: int
    chunk_len: int
    models: list[Model]


def markdown(report: Report) -> str:
    """A table for each decoder."""
    tables = "\n".join(_table(model) for model in report.models)
    return f"{heading(report.provenance)}, seed {report.seed}.\n\n{tables}"


def _table(model: Model) -> str:
    rows = []
    for engine in model.engines:
        if engine.ratio is None:
            rows.append((engine.way, f"refused: {engine.built.refusal}", "", "", ""))
            continue
        size, seconds = f"{engine.built.plan_bytes / 1e6:.1f}", f"{engine.built.build_s:.1f}"
        rows.append((engine.way, size, f"{engine.ratio:.3f}", seconds, ", ".join(engine.twice)))
    return table((model.name, "MB", "of 2 x parameters", "build, s", "lies there twice"), rows)
