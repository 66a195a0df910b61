"""TOML, for files that a person writes.

The one idea: a TOML file becomes the same plain values as a JSON file, so ``formats.jsonio.decode``
checks both alike. Only the workstation reads TOML (Python has a reader since 3.11, ``tomli`` is
the same for 3.10), and nothing writes it: what the program writes is JSON.
"""

import sys
from typing import Any

from merino_edge.errors import FormatError, MissingDependencyError
from merino_edge.formats import jsonio

MAX_TOML_BYTES = 1 << 20  # far above what a person writes


def read_toml(path: str) -> dict[str, Any]:
    """The tables of a TOML file, as plain values.

    Raises:
        FormatError: Missing, larger than 1 MiB, not UTF-8, or not TOML (with line and column).
        MissingDependencyError: Python is older than 3.11, and tomli is not installed.
    """
    data = jsonio.read_bytes(path, MAX_TOML_BYTES)
    try:
        document: dict[str, Any] = _parser().loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError
        raise FormatError(f"not TOML: {error}.", path) from error
    return document


def _parser() -> Any:
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib
    try:
        import tomli
    except ImportError as error:
        raise MissingDependencyError("tomli", "a TOML file", "pip install tomli") from error
    return tomli
