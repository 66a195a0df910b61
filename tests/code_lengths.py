"""How long the modules and the functions are; ``make lines`` prints the longest.

What tires a reader is the tail, not the average, so the tail is what this shows. A function's
length is counted from ``def`` to its last line without its docstring: explaining costs nothing.
"""

import ast
import pathlib
from typing import NamedTuple

PACKAGE = pathlib.Path(__file__).parent.parent / "merino_edge"


class Length(NamedTuple):
    """Lines of one module or function."""

    n_lines: int
    where: str


def module_lengths() -> list[Length]:
    """All modules of the package, longest first."""
    return sorted(
        (Length(len(path.read_text().splitlines()), _name(path)) for path in _modules()),
        reverse=True,
    )


def function_lengths() -> list[Length]:
    """All functions and methods of the package, longest first."""
    return sorted((length for path in _modules() for length in _functions_in(path)), reverse=True)


def _modules() -> list[pathlib.Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _name(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE.parent).as_posix()


def _functions_in(path: pathlib.Path) -> list[Length]:
    functions = [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
    ]
    return [
        Length(_code_lines(node), f"{_name(path)}:{node.lineno} {node.name}") for node in functions
    ]


def _code_lines(function: ast.FunctionDef) -> int:
    total = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function, clean=False) is None:
        return total
    docstring = function.body[0]
    return total - (docstring.end_lineno - docstring.lineno + 1)


def _print(title: str, lengths: list[Length]) -> None:
    middle = lengths[len(lengths) // 2].n_lines
    print(f"{title}: {len(lengths)}, the middle one has {middle} lines, the longest")
    for length in lengths[:10]:
        print(f"  {length.n_lines:4d}  {length.where}")


if __name__ == "__main__":
    _print("modules", module_lengths())
    _print("functions", function_lengths())
