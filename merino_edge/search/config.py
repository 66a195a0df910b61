"""How a search is run: how many candidates, how wide a population, which seed, which objective."""

from dataclasses import dataclass

from merino_edge.core.entropy import EntropyConfig
from merino_edge.errors import SpecError

_DEFAULT_ENTROPY = EntropyConfig()


@dataclass(frozen=True)
class SearchConfig:
    """How long and how wide to search.

    Attributes:
        candidates: Genomes to score in all.
        population: Survivors of a generation, and children in the next.
        seed: Same seed, same result.
        entropy: Constants of the objective.
    """

    candidates: int = 500_000
    population: int = 512
    seed: int = 0
    entropy: EntropyConfig = _DEFAULT_ENTROPY

    def __post_init__(self) -> None:
        if self.population < 2:
            raise SpecError(f"population is {self.population}, must be at least 2.")
        if self.candidates < self.population:
            raise SpecError(
                f"{self.candidates} candidates cannot fill a population of {self.population}.",
                hint="more --candidates, or a smaller --population.",
            )
