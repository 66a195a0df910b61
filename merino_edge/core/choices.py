"""What a list of choices in a search space must be: short, ascending, of sizes that exist.

The one idea: every check names the field it is about ("d_models[2]"), so a file's reader can say
where in the file to look. The limits are what a search can hold. Its largest table has a row of
six float64 for every choice of width, ratio and depth: 12.6 MB at 64 of each. Sizes are far above
any decoder that a board could run, and their products stay within what numpy can count.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NoReturn

from merino_edge.errors import SpecError

MOST_CHOICES = 64
MOST_VOCABULARIES = 16
LARGEST = {
    "n_blocks": 16,
    "head_dim": 1 << 16,
    "vocab_size": 1 << 20,
    "max_seq_len": 1 << 20,
    "d_models": 1 << 16,
    "ffn_ratios": 64,
    "depths": 1024,
    "bytes_per_token": 64,
}


def check_count(name: str, value: int) -> None:
    """A whole number from 1 to the largest of its name.

    Raises:
        SpecError: It is not; holds the field, as all errors here.
    """
    if value < 1:
        refuse(name, value, "must be at least 1")
    _check_largest(name, value, LARGEST[name])


def check_choices(name: str, choices: Sequence[float]) -> None:
    """One to 64 numbers above 0 that ascend."""
    _check_length(name, choices, MOST_CHOICES)
    _check_numbers(name + "[{}]", choices, LARGEST[name])
    _check_ascending(name + "[{}]", choices)


def check_vocabularies(
    sizes: Sequence[int], bytes_per_token: Sequence[float], reference: int
) -> None:
    """One to 16 sizes that ascend, the reference among them, with bytes that do not fall."""
    _check_length("vocabularies", sizes, MOST_VOCABULARIES)
    _check_numbers("vocabularies[{}].size", sizes, LARGEST["vocab_size"])
    _check_ascending("vocabularies[{}].size", sizes)
    field = "vocabularies[{}].bytes_per_token"
    _check_numbers(field, bytes_per_token, LARGEST["bytes_per_token"])
    for index, (before, value) in enumerate(pairwise(bytes_per_token), 1):
        if value < before:
            reason = f"must not be below the {before} of a smaller vocabulary"
            refuse(field.format(index), value, reason)
    if reference not in sizes:
        listed = ", ".join(map(str, sizes))
        refuse("vocab_size", reference, f"must be one of the vocabularies' sizes: {listed}")


def refuse(field: str, value: Any, reason: str) -> NoReturn:
    """Say what a field is and what it should be.

    Raises:
        SpecError: Always.
    """
    raise SpecError(f"is {value}, {reason}.", field=field)


def _check_length(name: str, choices: Sequence[Any], most: int) -> None:
    if not choices:
        raise SpecError("is empty: give at least one choice.", field=name)
    if len(choices) > most:
        raise SpecError(f"has {len(choices)} choices, must have at most {most}.", field=name)


def _check_numbers(field: str, values: Sequence[float], largest: int) -> None:
    for index, value in enumerate(values):
        if not value > 0:  # nan is not, either
            refuse(field.format(index), value, "must be above 0")
        _check_largest(field.format(index), value, largest)


def _check_largest(field: str, value: float, largest: int) -> None:
    if value > largest:
        refuse(field, value, f"must be at most {largest}")


def _check_ascending(field: str, values: Sequence[float]) -> None:
    for index, (before, value) in enumerate(pairwise(values), 1):
        if not before < value:
            refuse(field.format(index), value, f"must be above the {before} before it")
