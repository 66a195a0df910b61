"""Parts of Markdown tables: rows and columns, picked by the names that stand in them.

The one idea: a page that shows less than another shows the same cells. A figure is worded once, by
the script that measured it; here nothing is computed, rounded or worded again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from merino_edge.cli.output import table
from merino_edge.errors import FormatError


class Table(NamedTuple):
    """Cells without their padding; the first of a row names it."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        """As Markdown."""
        return table(self.header, self.rows)


def tables_in(text: str) -> list[Table]:
    """Every table of a text, in order."""
    found: list[Table] = []
    lines: list[tuple[str, ...]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            lines.append(tuple(cell.strip() for cell in line.strip().strip("|").split("|")))
        elif lines:
            found.append(Table(lines[0], tuple(lines[2:])))
            lines = []
    return found


def columns(of: Table, *kept: str, **renamed: str) -> Table:
    """The first column, those that keep their names, and those that get another.

    Raises:
        FormatError: There is no such column.
    """
    names = {**{name: name for name in kept}, **renamed}
    missing = [name for name in names if name not in of.header]
    if missing:
        raise FormatError(f"a table has no column '{missing[0]}'; it has {', '.join(of.header)}.")
    places = [0, *(of.header.index(name) for name in names)]
    found = tuple(tuple(row[place] for place in places) for row in of.rows)
    return Table((of.header[0], *names.values()), found)


def rows(of: Table, names: Iterable[str]) -> Table:
    """The rows with these names, in this order.

    Raises:
        FormatError: There is no such row.
    """
    known = {row[0]: row for row in of.rows}
    missing = [name for name in names if name not in known]
    if missing:
        raise FormatError(f"a table has no row '{missing[0]}'; it has {', '.join(known)}.")
    return of._replace(rows=tuple(known[name] for name in names))


def named(of: Table, names: Mapping[str, str]) -> Table:
    """Some rows under other names."""
    return of._replace(rows=tuple((names.get(row[0], row[0]), *row[1:]) for row in of.rows))


def where(of: Table, column: str, value: str) -> Table:
    """The rows with this value in that column."""
    place = of.header.index(column)
    return of._replace(rows=tuple(row for row in of.rows if row[place] == value))


def beside(*parts: Table) -> Table:
    """Tables side by side: rows of one name become one, in the order of the first table.

    Where a name has several rows, as one has that was tried with several seeds, their different
    cells stand in one, comma by comma.
    """
    names = list(dict.fromkeys(row[0] for row in parts[0].rows))
    header = (parts[0].header[0], *(name for part in parts for name in part.header[1:]))
    merged = []
    for name in names:
        cells = [cell for part in parts for cell in _cells(part, name)]
        merged.append((name, *cells))
    return Table(header, tuple(merged))


def below(*parts: Table) -> Table:
    """The rows of all, under the header of the first; a cell that one lacks is empty."""
    header = parts[0].header
    found: list[tuple[str, ...]] = []
    for part in parts:
        for row in part.rows:
            known = dict(zip(part.header[1:], row[1:], strict=True))
            found.append((row[0], *(known.get(name, "") for name in header[1:])))
    return Table(header, tuple(found))


def _cells(part: Table, name: str) -> Sequence[str]:
    found = [row[1:] for row in part.rows if row[0] == name]
    if not found:
        return [""] * (len(part.header) - 1)
    return [", ".join(dict.fromkeys(cells)) for cells in zip(*found, strict=True)]
