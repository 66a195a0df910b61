"""Options that several commands share, and the ways to write a size."""

import argparse
import os
import re
from typing import Any, Dict, Sequence

from merino_edge.errors import UsageError

PRECISIONS = ("fp16", "fp32", "int8", "int4", "int4-all")  # of weights
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
        choices=("auto", "tensorrt", "tensorrt-rtx", "native", "ort", "reference"),
        help="auto: the fastest that works; native: our own decoder; ort: ONNX Runtime; "
        "reference: numpy, slow (auto)",
    )
    parser.add_argument(
        "--threads", type=positive_int, default=None, help="CPU threads (all cores)"
    )


def add_board(group: Any, verb: str, noun: str = "") -> None:
    """``--host`` and what belongs to it; ``remote_options`` reads them.

    Args:
        group: Where they go.
        verb: What the command does there: "build".
        noun: What that is, if it can be cancelled: "build".
    """
    group.add_argument("--host", metavar="USER@BOARD", help=verb + " there, over ssh")
    group.add_argument(
        "--ssh-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of ssh_config, such as Port=2222",
    )
    group.add_argument("--remote-dir", metavar="DIR", help="folder for bundles on the board")
    group.add_argument(
        "--board-program",
        default="",
        metavar="WORDS",
        help="how merino-edge starts on the board, if it is not found",
    )
    if noun:
        group.add_argument(
            "--cancel", action="store_true", help="end the {} that runs there".format(noun)
        )


def remote_options(args: argparse.Namespace, words: Sequence[str] = ()) -> Any:
    """What was given to ``add_board``, as ``pipeline.remote.RemoteOptions``.

    Args:
        args: Of the command.
        words: More words for the board's command.
    """
    from merino_edge.pipeline.remote import RemoteOptions
    from merino_edge.pipeline.remote.walk import REMOTE_DIR

    return RemoteOptions(
        ssh_options=tuple(args.ssh_option),
        remote_dir=args.remote_dir or REMOTE_DIR,
        program=args.board_program,
        words=tuple(words),
    )


_CONSTANTS = ("alpha1", "alpha2", "eps", "gamma0", "most_growth")


def add_entropy(group: Any) -> None:
    """The constants of the entropy; ``entropy_constants`` reads them."""
    for name, text in (
        ("alpha1", "weight of the attention's entropy"),
        ("alpha2", "weight of the feed-forward's entropy"),
        ("eps", "noise level of the entropy"),
        ("gamma0", "depth-to-width ratio at which effectiveness is zero"),
        ("most-growth", "layers count as no wider than so many times the embedding"),
    ):
        group.add_argument("--" + name, type=positive_float, metavar="X", help=text)
    group.add_argument(
        "--effectiveness",
        choices=("factor", "hard", "off", "literal"),
        help="how gamma bounds the depth (factor)",
    )


def entropy_constants(args: argparse.Namespace) -> Dict[str, Any]:
    """The constants that were given, by their names in ``core.entropy.EntropyConfig``."""
    given = {name: getattr(args, name) for name in _CONSTANTS}
    given["form"] = args.effectiveness
    return {name: value for name, value in given.items() if value is not None}


def refuse_to_replace(path: str, force: bool) -> None:
    """Look before a long computation whether its result can be written.

    Raises:
        UsageError: Something is there and ``force`` is off, or there is no such folder.
    """
    if os.path.isdir(path):
        raise UsageError("'{}' is a folder.".format(path), hint="name a file in it.")
    if os.path.exists(path) and not force:
        raise UsageError("'{}' exists.".format(path), hint="--force replaces it; or name another.")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UsageError("the folder '{}' does not exist.".format(folder))
