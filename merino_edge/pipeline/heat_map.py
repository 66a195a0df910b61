"""Heat maps as inline SVG: a cell for each pair, more colour for more, its value in it.

The one idea: the colour only guides the eye; the figure in the cell is what counts, so a printed
page and any eye has all. A colour is one hue at an opacity, which works on light and dark alike. A
cell of which the value is a guess has no colour and a grey figure. Nothing here knows what a value
is.
"""

from collections.abc import Sequence
from math import floor, log, log10
from typing import NamedTuple

from merino_edge.pipeline.markup import Markup, join, percent, tag

_ROW_PX = 26
_PALEST, _DARKEST = 0.06, 0.58  # opacities; beyond that the figures would be hard to read


class Cell(NamedTuple):
    """One value.

    Attributes:
        value: Above 0: equal steps of colour are equal factors.
        title: What it is, in words.
        is_guess: Far from what is known.
    """

    value: float
    title: str
    is_guess: bool = False


def heat_map(
    title: str,
    x_label: str,
    y_label: str,
    columns: Sequence[str],
    rows: Sequence[str],
    cells: Sequence[Sequence[Cell]],
    ends: tuple[float, float],
) -> Markup:
    """A map.

    Args:
        title: Read aloud in place of the picture.
        x_label: What the columns are.
        y_label: What the rows are.
        columns: Their names, from left to right.
        rows: Their names, from bottom to top.
        cells: Row by row, in the same order.
        ends: Least and most value, of this map and of those that are compared with it.
    """
    n_decimals = decimals(ends[1])
    drawn = []
    for i, row in enumerate(cells):
        top = (len(rows) - 1 - i) / len(rows)
        for j, cell in enumerate(row):
            place = j / len(columns), 1.0 / len(columns), top, 1.0 / len(rows)
            drawn.append(_cell(cell, place, _opacity(cell.value, ends), n_decimals))
    picture = tag(
        "svg",
        tag("title", title),
        *drawn,
        _names(columns, rows),
        role="img",
        width="100%",
        height=str(_ROW_PX * len(rows)),
        class_="heat",
    )
    labels = tag("p", y_label, class_="y-label"), tag("p", x_label, class_="x-label")
    return tag("figure", labels[0], tag("div", picture, class_="plot-box"), labels[1])


def decimals(most: float) -> int:
    """Digits after the point that leave the largest value three figures; more have no room."""
    return max(0, min(3, 2 - floor(log10(most)))) if most > 0.0 else 0


def _opacity(value: float, ends: tuple[float, float]) -> float:
    low, high = ends
    if low <= 0.0 or high <= low * (1.0 + 1e-9):
        return _PALEST
    return _PALEST + (_DARKEST - _PALEST) * log(value / low) / log(high / low)


def _cell(
    cell: Cell, place: tuple[float, float, float, float], opacity: float, n_decimals: int
) -> Markup:
    left, width, top, height = place
    box = tag(
        "rect",
        x=percent(left),
        width=percent(width),
        y=percent(top),
        height=percent(height),
        fill_opacity=0.0 if cell.is_guess else round(opacity, 3),
        class_="fill-c0 segment",
    )
    words = tag(
        "text",
        f"{cell.value:.{n_decimals}f}",
        x=percent(left + width / 2.0),
        y=percent(top + height / 2.0),
        text_anchor="middle",
        dominant_baseline="central",
        class_="x-tick" if cell.is_guess else None,
    )
    return tag("g", tag("title", cell.title), box, words)


def _names(columns: Sequence[str], rows: Sequence[str]) -> Markup:
    drawn = []
    for i, name in enumerate(rows):
        middle = percent((len(rows) - 0.5 - i) / len(rows))
        drawn.append(tag("text", name, x="-8", y=middle, class_="y-tick"))
    for j, name in enumerate(columns):
        middle = percent((j + 0.5) / len(columns))
        drawn.append(tag("text", name, x=middle, y="100%", dy="18", class_="x-tick"))
    return join(drawn)
