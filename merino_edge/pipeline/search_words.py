"""Numbers and facts of a search in words.

The one idea: a number never stands alone. It has its unit, and it says what it is: counted, which
is exact, or predicted, and by what. Nothing here knows of pages or plots.
"""

from collections.abc import Callable
from math import prod
from typing import NamedTuple

from merino_edge.core.budget import LIMITS, Budget, Violation
from merino_edge.core.cost import CostReport, WorkPoint
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.weights import weight_shapes
from merino_edge.pipeline.quantities import EQUAL, at_most, exact, human
from merino_edge.search.candidate import Candidate
from merino_edge.search.exact import RESOLUTION_NATS, Certificate
from merino_edge.search.objectives import ENTROPY
from merino_edge.search.result import SearchResult

_EXACT, _WITHOUT_RUNTIME = "counted, exact", "counted, without the runtime's own"


class CostWords(NamedTuple):
    """A cost for people.

    Attributes:
        cost: Field of ``CostReport``.
        name: What it is, at a work point.
        unit: "", "B", "ms" or "mJ".
        counted: How it was counted; None for what is predicted.
    """

    cost: str
    name: Callable[[WorkPoint], str]
    unit: str
    counted: str | None = _EXACT

    @property
    def is_predicted(self) -> bool:
        """Not counted."""
        return self.counted is None


COSTS = (
    CostWords("n_params", lambda at: "stored parameters", ""),
    CostWords("prefill_flops", lambda at: f"FLOPs of a prompt of {at.prompt_len:,} tokens", ""),
    CostWords(
        "decode_flops_per_token",
        lambda at: f"FLOPs of a generated token, context {at.context_len:,}",
        "",
    ),
    CostWords(
        "peak_memory_bytes", lambda at: f"memory, context {at.context_len:,}", "B", _WITHOUT_RUNTIME
    ),
    CostWords("weight_bytes", lambda at: "memory of the weights", "B"),
    CostWords("kv_bytes_per_token", lambda at: "memory of one token in the cache", "B"),
    CostWords(
        "activation_bytes",
        lambda at: f"memory of the activations, prompt of {at.longest_prompt:,} tokens",
        "B",
        _WITHOUT_RUNTIME,
    ),
    CostWords(
        "latency_ms", lambda at: f"latency of a token, context {at.context_len:,}", "ms", None
    ),
    CostWords(
        "prefill_ms",
        lambda at: f"latency of a prompt of {at.longest_prompt:,} tokens",
        "ms",
        None,
    ),
    CostWords(
        "energy_mj_per_token",
        lambda at: f"energy of a token, context {at.context_len:,}",
        "mJ",
        None,
    ),
)


def cost_words(cost: str) -> CostWords:
    """The words for a field of ``CostReport``."""
    return next(words for words in COSTS if words.cost == cost)


class ObjectiveWords(NamedTuple):
    """What was maximised: its name, its unit (empty for a count), and what it is."""

    name: str
    unit: str
    meaning: str

    @property
    def heading(self) -> str:
        """Name and unit, for a column or an axis."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


_OBJECTIVES = {
    ENTROPY: ObjectiveWords(
        "entropy", "nats", "entropy of the weight matrices times effectiveness"
    ),
    "decoder_params": ObjectiveWords(
        "decoder parameters", "", "parameters of all layers as if none were shared"
    ),
    "params": ObjectiveWords("stored parameters", "", "stored parameters, shared ones once"),
    "flops": ObjectiveWords("prefill FLOPs", "", "FLOPs of a prompt"),
    "depth": ObjectiveWords("layers", "", "layers as often as they are applied"),
    "random": ObjectiveWords("random draw", "", "a number that depends on nothing that matters"),
}


def objective_words(name: str) -> ObjectiveWords:
    """What an objective is called; an unknown one by its own name."""
    return _OBJECTIVES.get(name, ObjectiveWords(name, "", name))


def basis(words: CostWords, cost: CostReport) -> str:
    """Where a cost comes from."""
    if getattr(cost, words.cost) is None:
        return "no prediction for this target"
    return words.counted or _prediction(cost)


def _prediction(cost: CostReport) -> str:
    return f"predicted ({cost.latency_basis or 'roofline'})"


def total_words(value: float, objective: str) -> str:
    """A value of the objective with its unit."""
    return f"{exact(value)} {objective_words(objective).unit}".rstrip()


def objective_of(candidate: Candidate, objective: str) -> float | None:
    """What a candidate scores; None where only the search itself can tell."""
    a = candidate.architecture
    known: dict[str, Callable[[], float]] = {
        ENTROPY: lambda: candidate.entropy.total,
        "decoder_params": lambda: _unshared_params(a),
        "params": lambda: candidate.cost.n_params,
        "flops": lambda: candidate.cost.prefill_flops,
        "depth": lambda: a.n_layers,
    }
    return known[objective]() if objective in known else None


def _unshared_params(a: Architecture) -> int:
    """All layers' parameters as if each had its own; norms are stored for each layer anyway."""
    total = 0
    for name, shape in weight_shapes(a).items():
        kind, _, rest = name.partition(".")
        if kind == "blocks" and ".joint." not in name:
            block = a.blocks[int(rest.partition(".")[0])]
            total += prod(shape) * (1 if ".norms." in name else block.depth)
    return total


def budget_words(budget: Budget) -> str:
    """All limits in one line."""
    return ", ".join(
        f"{limit.quantity} at most {human(getattr(budget, limit.field), _unit(limit.unit))}"
        for limit in LIMITS
        if getattr(budget, limit.field) is not None
    )


def _unit(unit: str) -> str:
    return "B" if unit == "bytes" else unit


def limit_on(cost: str, budget: Budget) -> float | None:
    """The limit on a cost, if there is one."""
    limits = {limit.shown: limit.field for limit in LIMITS}
    found: float | None = getattr(budget, limits[cost]) if cost in limits else None
    return found


def verdict(certificate: Certificate | None, objective: str) -> str:
    """What is proven, in one sentence."""
    name = objective_words(objective).name
    if certificate is None:
        return f"Nothing is proven about how much more {name} there could be within the budget."
    # The proof may have found a better one that the search did not take: then there is a gap.
    if certificate.upper_bound - certificate.best_total <= RESOLUTION_NATS:
        return f"Proven optimal in this space: no member that keeps the budget has more {name}."
    bound = total_words(certificate.upper_bound, objective)
    return (
        f"At most {at_most(certificate.gap)} below the best there can be: "
        f"no member that keeps the budget has more than {bound}."
    )


def method_words(result: SearchResult) -> str:
    """How it was found, with the seeds."""
    config = result.config
    seeds = sorted({run.seed for run in result.seeds}) or list(config.seeds)
    named = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    how = {"evolution": "evolution", "exact": "exact: evolution first, then the proof to its end"}
    return f"{how.get(config.method, config.method)}; {named}, population {config.population:,}"


def time_words(result: SearchResult) -> str | None:
    """How long it took, where that is known."""
    if result.elapsed_s is None:
        return None
    has_proof = result.certificate is not None and result.certificate_s is not None
    proof = f", {result.certificate_s:.2f} s of it for the proof" if has_proof else ""
    return f"{result.elapsed_s:.2f} s{proof}"


def why_lost(candidate: Candidate, winner: Candidate, objective: str) -> list[str]:
    """Why a candidate is not the winner, one sentence for each reason."""
    if candidate.violations:
        return [_violation_words(violation, candidate.cost) for violation in candidate.violations]
    name = objective_words(objective).name
    theirs, best = objective_of(candidate, objective), objective_of(winner, objective)
    if theirs is None or best is None:
        return ["fits, but scored lower"]
    relative = theirs / best - 1.0
    if abs(relative) < EQUAL:
        return [f"fits, with the same {name}; even depths and more parameters win a tie"]
    if relative > 0.0:
        return [f"fits, and has {100.0 * relative:.3g} % more {name}: the search missed it"]
    return [f"fits, but {-100.0 * relative:.3g} % less {name}"]


def _violation_words(violation: Violation, cost: CostReport) -> str:
    costs = {limit.quantity: limit.shown for limit in LIMITS}
    is_predicted = costs.get(violation.quantity) in {c.cost for c in COSTS if c.is_predicted}
    note = f", {_prediction(cost)}" if is_predicted else ""
    return violation.sentence + note
