"""How a stranger's tensors become ours: a plan of parts, checked before anything is read.

The one idea: every stored tensor of ours is one or several tensors of the file, each brought
into our order and stacked. A family of models is then a table, ``{our name: (parts...)}``, and
what all families need stands here once: every part is there and has its shape, no tensor of the
file is left over, and one tensor at a time is held beside the growing float32 model. Which file
it is, and which family, this module does not know.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from merino_edge.errors import FormatError, UnsupportedError
from merino_edge.formats.weights import Shape


class Part(NamedTuple):
    """A tensor of the file that fills some rows of one of ours.

    Attributes:
        name: In the file.
        shape: In the file.
        turn: Brings its values into our order and orientation; None where they are already.
    """

    name: str
    shape: Shape
    turn: Callable[[np.ndarray], np.ndarray] | None = None


Plan = dict[str, tuple[Part, ...]]
Progress = Callable[[str], None]


def silent(text: str) -> None:
    """Progress that nobody sees."""


def check_parts(
    plan: Plan, found: Mapping[str, Shape], path: str, said_by: str, family: str, note: str = ""
) -> None:
    """The file holds exactly the tensors that its description announces.

    Args:
        plan: What is needed.
        found: Name -> shape of what is there.
        path: The file or folder.
        said_by: What describes the model: "the metadata".
        family: For the message about a tensor that has no place.
        note: For the same.

    Raises:
        FormatError: A tensor is missing or has another shape; named in the file's own words.
        UnsupportedError: A tensor that we do not know: a bias, experts, rope factors.
    """
    known = set()
    for parts in plan.values():
        for part in parts:
            known.add(part.name)
            if part.name not in found:
                raise FormatError("the file has no such tensor.", path, part.name)
            if tuple(found[part.name]) != part.shape:
                raise FormatError(
                    f"shape is {tuple(found[part.name])}, {said_by} says {part.shape}.",
                    path,
                    part.name,
                )
    for name in found:
        if name not in known:
            raise UnsupportedError(
                f"{path}: the tensor '{name}' has no place in a plain {family} decoder.", note=note
            )


def gather(
    plan: Plan,
    shapes: Mapping[str, Shape],
    read: Callable[[str], np.ndarray],
    verb: str,
    on_progress: Progress = silent,
) -> dict[str, np.ndarray]:
    """All weights under our names, float32; one tensor of the file at a time is held beside them.

    Args:
        plan: One that ``check_parts`` has passed.
        shapes: Of our tensors.
        read: Name in the file -> float32 array.
        verb: What reading does, for progress: "dequantising".
        on_progress: Called with a few words before each tensor.
    """
    n_parts = sum(len(parts) for parts in plan.values())
    weights, done = {}, 0
    for ours, parts in plan.items():
        target = np.empty(shapes[ours], np.float32)
        row = 0
        for part in parts:
            done += 1
            on_progress(f"{verb} {done}/{n_parts}: {part.name}")
            values = read(part.name)
            if part.turn is not None:
                values = part.turn(values)
            target[row : row + len(values)] = values
            row += len(values)
        weights[ours] = target
    return weights


def refuse_not_finite(values: np.ndarray, path: str, name: str) -> np.ndarray:
    """The values again.

    Raises:
        FormatError: One of them is a NaN or an infinity.
    """
    if not np.isfinite(values).all():
        raise FormatError("the tensor holds a NaN or an infinity.", path, name)
    return values
