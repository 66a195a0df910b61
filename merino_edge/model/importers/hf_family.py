"""What a family of Hugging Face models must tell: its keys, its tensors, its oddities.

A family's module has a ``Family`` and little else. The functions here are for the tables in it:
a matrix with its bias, a norm, several matrices stacked into one.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from merino_edge.formats.architecture import Architecture
from merino_edge.formats.weights import Shape
from merino_edge.model.importers.hf_config import Config
from merino_edge.model.importers.parts import Part, Plan


@dataclass(frozen=True)
class Family:
    """One ``model_type``.

    Attributes:
        name: Its ``model_type``.
        base: What stands before all names but the head's; some files leave it out.
        head: Name of the head's matrix, which tied models may store a second time.
        architecture: Reads a configuration; refuses by name what we do not have.
        plan: Our tensors, and theirs that fill them.
        constants: Patterns of stored tensors that are no weights (masks, rotary frequencies);
            transformers makes them anew, and so do we.
        notes: What people who know the model should be told, in sentences.
    """

    name: str
    base: str
    head: str
    architecture: Callable[[Config], Architecture]
    plan: Callable[[Architecture], Plan]
    constants: tuple[str, ...] = ()
    notes: Callable[[Architecture], tuple[str, ...]] = lambda a: ()

    def full_names(self, found: Mapping[str, Shape], plan: Plan) -> dict[str, str]:
        """Name in the plan -> name in the files, without constants; others stand for themselves."""
        known = {part.name for parts in plan.values() for part in parts}
        names = {}
        for name in found:
            whole = name if name in known else self.base + name
            if not any(re.fullmatch(pattern, name) for pattern in self.constants):
                names[whole if whole in known else name] = name
        return names


def linear(ours: str, theirs: str, shape: Shape, bias: bool, turned: bool = False) -> Plan:
    """A matrix and its bias.

    Args:
        ours: Our name, without ".weight".
        theirs: Theirs.
        shape: Of our matrix: (outputs, inputs).
        bias: There is one.
        turned: The file stores (inputs, outputs), as GPT-2's ``Conv1D`` does.
    """
    weight = Part(theirs + ".weight", shape[::-1] if turned else shape, _turn if turned else None)
    parts: Plan = {ours + ".weight": (weight,)}
    if bias:
        parts[ours + ".bias"] = (Part(theirs + ".bias", shape[:1]),)
    return parts


def stacked(ours: str, theirs: list[str], n_rows: list[int], n_in: int, bias: bool) -> Plan:
    """Several matrices of theirs, one above the other in ours, and their biases."""
    rows = list(zip(theirs, n_rows, strict=True))
    parts: Plan = {ours + ".weight": tuple(Part(name + ".weight", (n, n_in)) for name, n in rows)}
    if bias:
        parts[ours + ".bias"] = tuple(Part(name + ".bias", (n,)) for name, n in rows)
    return parts


def norm(ours: str, theirs: str, width: int, bias: bool = True) -> Plan:
    """Scale and, for LayerNorm, shift."""
    ends = (".weight", ".bias") if bias else (".weight",)
    return {ours + end: (Part(theirs + end, (width,)),) for end in ends}


def matrix(ours: str, theirs: str, shape: Shape) -> Plan:
    """One matrix without a bias: an embedding, a head."""
    return linear(ours, theirs, shape, bias=False)


def _turn(values: np.ndarray) -> np.ndarray:
    return values.T
