"""How a search is run: by which method, for which objective, how long, from which seeds."""

from dataclasses import dataclass

from merino_edge.core.budget import LIMITS
from merino_edge.core.entropy import EntropyConfig
from merino_edge.errors import SpecError
from merino_edge.search.objectives import ENTROPY, OBJECTIVES

_DEFAULT_ENTROPY = EntropyConfig()
METHODS = ("evolution", "exact")
AXES = tuple(limit.shown for limit in LIMITS)


@dataclass(frozen=True)
class SearchConfig:
    """How long and how wide to search.

    Attributes:
        candidates: Genomes to score in all, for each seed.
        population: Survivors of a generation, and children in the next.
        seed: The first seed. Same seed, same result.
        n_seeds: Seeds to search with, one after the other upwards; the best of all is taken.
        method: "evolution", or "exact": go on until the optimum is proven.
        objective: What is maximised: the entropy, or a baseline to compare it with.
        certify: Prove how far the result is from the optimum; only for the entropy.
        front: Trace the entropy against this cost as well, a name in ``CostReport``; or None.
        front_points: Of that trace.
        entropy: Constants of the entropy.
    """

    candidates: int = 500_000
    population: int = 512
    seed: int = 0
    n_seeds: int = 1
    method: str = METHODS[0]
    objective: str = ENTROPY
    certify: bool = True
    front: str | None = None
    front_points: int = 12
    entropy: EntropyConfig = _DEFAULT_ENTROPY

    def __post_init__(self) -> None:
        if self.population < 2:
            raise SpecError(f"population is {self.population}, must be at least 2.")
        if self.candidates < self.population:
            raise SpecError(
                f"{self.candidates} candidates cannot fill a population of {self.population}.",
                hint="more --candidates, or a smaller --population.",
            )
        if self.seed < 0 or self.n_seeds < 1:
            raise SpecError(f"seed is {self.seed}, n_seeds {self.n_seeds}: 0 and 1 are the least.")
        if self.front_points < 2:
            raise SpecError(f"front_points is {self.front_points}, must be at least 2.")
        self._check("method", METHODS)
        self._check("objective", tuple(OBJECTIVES))
        self._check("front", (None, *AXES))
        if self.objective != ENTROPY and (self.method == "exact" or self.front is not None):
            raise SpecError(
                f"objective is {self.objective!r}: only the entropy can be proven and traced.",
                hint="leave out the exact method and the front.",
            )

    def _check(self, name: str, known: tuple[str | None, ...]) -> None:
        if getattr(self, name) not in known:
            names = ", ".join(str(value) for value in known)
            raise SpecError(f"{name} is {getattr(self, name)!r}, must be one of {names}.")

    @property
    def seeds(self) -> range:
        """All seeds."""
        return range(self.seed, self.seed + self.n_seeds)
