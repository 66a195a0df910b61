"""Limits on what an architecture may cost, and by how much it misses them.

The one idea: missing a limit has a *size* (the excess, relative to the limit), so a search can
walk back towards what fits, and a person can be told how far away the nearest one is. The same
arithmetic serves one cost report and arrays of costs.

A budget knows limits, not how costs arise.
"""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from merino_edge.errors import SpecError


class Limit(NamedTuple):
    """How a field of a budget binds a field of a cost report.

    Attributes:
        field: Of the budget.
        cost: Of the report: what is compared.
        quantity, unit: Of both, for people.
        best_guess: Of the report, where ``cost`` is the upper end of an interval: its middle.
    """

    field: str
    cost: str
    quantity: str
    unit: str
    best_guess: str | None = None

    @property
    def shown(self) -> str:
        """The field of the report that people know."""
        return self.best_guess or self.cost


LIMITS = (
    Limit("max_params", "n_params", "parameters", ""),
    Limit("max_flops", "prefill_flops", "prefill FLOPs", ""),
    Limit("max_decode_flops_per_token", "decode_flops_per_token", "decode FLOPs per token", ""),
    Limit("max_memory_bytes", "peak_memory_bytes", "memory", "bytes"),
    Limit("max_latency_ms", "latency_high_ms", "latency per token", "ms", "latency_ms"),
    Limit("max_prefill_ms", "prefill_high_ms", "latency of the prompt", "ms", "prefill_ms"),
    Limit("max_energy_mj", "energy_mj_per_token", "energy per token", "mJ"),
)


class Violation(NamedTuple):
    """One missed limit."""

    quantity: str
    value: float
    limit: float
    unit: str

    @property
    def excess(self) -> float:
        """How far over the limit, as a fraction of it."""
        return self.value / self.limit - 1.0

    @property
    def sentence(self) -> str:
        """For people: ``parameters: 12,300,000 is 23 % over the limit of 10,000,000``."""
        unit = " " + self.unit if self.unit else ""
        times = self.value / self.limit
        how_far = f"{times:.3g} times" if times >= 2.0 else f"{100.0 * self.excess:.3g} % over"
        return (
            f"{self.quantity}: {_number(self.value)}{unit} is {how_far} "
            f"the limit of {_number(self.limit)}{unit}"
        )


@dataclass(frozen=True)
class Budget:
    """Upper limits; None for no limit.

    Attributes:
        max_params: Stored parameters, shared ones once, embeddings included.
        max_flops: Of a prompt of 1024 tokens, body only (2 per multiply-accumulate).
        max_decode_flops_per_token: At the full context, head included.
        max_memory_bytes: Weights, the cache of the full context, activations of a prompt.
        max_latency_ms: Of one generated token at the full context.
        max_prefill_ms: Of a prompt, to its first row of logits.
        max_energy_mj: Of one generated token at the full context, in millijoules.
    """

    max_params: int | None = None
    max_flops: int | None = None
    max_decode_flops_per_token: int | None = None
    max_memory_bytes: int | None = None
    max_latency_ms: float | None = None
    max_prefill_ms: float | None = None
    max_energy_mj: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 < value < float("inf"):
                raise SpecError(f"{field.name} is {value}, must be above 0.")

    @property
    def is_unlimited(self) -> bool:
        """No limit at all."""
        return all(getattr(self, limit.field) is None for limit in LIMITS)

    @property
    def bounds_depth(self) -> bool:
        """Some limit grows with depth. Parameters do not: a shared block is stored once."""
        return any(getattr(self, limit.field) is not None for limit in LIMITS[1:])

    def violations(self, cost: Any) -> tuple[Violation, ...]:
        """The limits that a cost report misses, with values.

        Raises:
            SpecError: A limit is on something the report does not know.
        """
        found = [
            Violation(limit.quantity, value, bound, limit.unit)
            for limit, value, bound in self._pairs(cost)
        ]
        return tuple(violation for violation in found if violation.excess > 0.0)

    def total_excess(self, costs: Any) -> np.ndarray:
        """Sum of the relative excesses, 0 for what fits; ``costs`` holds arrays of shape (n,).

        Raises:
            SpecError: A limit is on something the costs do not know.
        """
        excesses = [np.maximum(value / bound - 1.0, 0.0) for _, value, bound in self._pairs(costs)]
        total: np.ndarray = np.sum(excesses, axis=0)
        return total

    def _pairs(self, cost: Any) -> list[tuple[Limit, Any, float]]:
        pairs = []
        for limit in LIMITS:
            bound, value = getattr(self, limit.field), getattr(cost, limit.cost)
            if bound is not None and value is None:
                raise SpecError(
                    f"{limit.field} is {bound}, but the {limit.quantity} cannot be predicted here.",
                    note="the target's bandwidth, peak rate or power is not known.",
                    hint="limit FLOPs or parameters instead, or take another --target.",
                )
            if bound is not None:
                pairs.append((limit, value, bound))
        return pairs


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3f}"
