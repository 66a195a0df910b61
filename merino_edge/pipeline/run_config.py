"""One TOML file says a whole run: budget, search, text, training, bundle.

Example::

    corpus = ["texts/*.txt"]        # beside this file, unless absolute
    target = "host"
    space = "tiny"
    context_len = 256

    [budget]
    max_params = 1500000
    max_flops = 2000000000

    [search]
    candidates = 100000

    [train]
    n_steps = 600

Each table is the record of its stage (``core.budget.Budget``, ``search.config.SearchConfig``,
``training.config.TrainConfig``), so an option is described once. An unknown key is refused.
"""

from dataclasses import dataclass
from typing import Any

from merino_edge.core.budget import Budget
from merino_edge.core.toml_file import read_toml
from merino_edge.formats import jsonio
from merino_edge.search.config import SearchConfig

_NO_LIMITS, _SEARCH = Budget(), SearchConfig()


@dataclass(frozen=True)
class RunConfig:
    """All stages of a run.

    Attributes:
        corpus: Text files, folders or patterns.
        target: A name in ``core.targets``.
        output: Folder of all results, beside the file.
        space: A preset or a file; None for the target's.
        context_len: Tokens of the bundle's cache; None for the model's, at most 512.
        budget: Limits; all None for the target's.
        search: How long to search.
        train: Fields of TrainConfig; those left out follow from the architecture.
    """

    corpus: tuple[str, ...]
    target: str = "host"
    output: str = "run"
    space: str | None = None
    context_len: int | None = None
    budget: Budget = _NO_LIMITS
    search: SearchConfig = _SEARCH
    train: dict[str, Any] | None = None


def read_run_config(path: str) -> RunConfig:
    """Read a run's TOML file.

    Raises:
        FormatError: Not TOML, or a key that no stage knows; path and field are named.
        MissingDependencyError: There is no TOML reader.
    """
    config: RunConfig = jsonio.decode(RunConfig, read_toml(path), path)
    return config
