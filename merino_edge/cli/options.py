"""Options that several commands share, and the ways to write a size."""

import argparse
import re

from merino_edge.errors import UsageError

_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def count(text: str) -> int:
    """A number with an optional decimal suffix: 64M, 160G, 512MB, 1.5k.

    Raises:
        UsageError: Not such a number, or not positive.
    """
    match = re.match(r"^([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)b?$", text.strip().lower())
    value = round(float(match.group(1)) * _SIZES[match.group(2)]) if match else 0
    if value < 1:
        raise UsageError("'{}' is not a size; write 64M, 160G or 512MB.".format(text))
    return int(value)


def positive_int(text: str) -> int:
    """A whole number above zero.

    Raises:
        UsageError: Anything else.
    """
    if not re.match(r"^[0-9]+$", text) or int(text) < 1:
        raise UsageError("'{}' is not a whole number above zero.".format(text))
    return int(text)


def positive_float(text: str) -> float:
    """A number above zero.

    Raises:
        UsageError: Anything else.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise UsageError("'{}' is not a number above zero.".format(text))
    return value


def natural_int(text: str) -> int:
    """A whole number, zero included.

    Raises:
        UsageError: Anything else.
    """
    if not re.match(r"^[0-9]+$", text):
        raise UsageError("'{}' is not a whole number.".format(text))
    return int(text)


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``: the result as one JSON document on stdout."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_force(parser: argparse.ArgumentParser) -> None:
    """``--force``: replace an earlier result."""
    parser.add_argument("--force", action="store_true", help="replace an earlier result")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """``--quiet``: no progress."""
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def add_seed(parser: argparse.ArgumentParser) -> None:
    """``--seed``: same seed, same result."""
    parser.add_argument("--seed", type=natural_int, default=0, help="same seed, same result (0)")


def add_backend(parser: argparse.ArgumentParser) -> None:
    """``--backend``: which implementation runs the model."""
    parser.add_argument(
        "--backend",
        default="auto",
        choices=("auto", "ort", "reference"),
        help="auto (the fastest that works), ort (ONNX Runtime), reference (numpy, slow)",
    )
    parser.add_argument(
        "--threads", type=positive_int, default=None, help="CPU threads (all cores)"
    )
