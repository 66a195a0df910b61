"""Plots as inline SVG: lines in steps, single points, a bound.

The one idea: positions are percentages, sizes of text are not. So a plot fills any width, a phone's
or a sheet of paper, and its words stay readable; no script is needed. Colours are classes that the
page's style defines for light and dark (``report_style``); none stands alone, since lines differ
in their dashes too.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, floor, log10
from typing import NamedTuple

from merino_edge.pipeline.markup import Markup, join, percent, tag

_N_COLOURS = 7  # that the style defines; then they begin again
# One more or less than there are colours, so that the same pair comes back late.
_DASHES = (None, "8 4", "2 3", "10 3 2 3", "4 4")
_MOST_TICKS = 6


class Axis(NamedTuple):
    """A direction of a plot.

    Attributes:
        label: What is counted, with its unit.
        low: Where it begins.
        high: Where it ends.
        show: A tick in words.
        is_log: Equal steps are equal factors.
    """

    label: str
    low: float
    high: float
    show: Callable[[float], str]
    is_log: bool = False

    def fraction(self, value: float) -> float:
        """Where a value stands, from 0 to 1."""
        low, high, at = self.low, self.high, value
        if self.is_log:
            low, high, at = log10(low), log10(high), log10(value)
        return (at - low) / (high - low)

    def ticks(self) -> list[float]:
        """A few round values on it."""
        if not self.is_log:
            return linear_ticks(self.low, self.high)
        return log_ticks(self.low, self.high)


class Line(NamedTuple):
    """Values that hold until the next one; shown as steps.

    Attributes:
        name: For the legend.
        points: (x, y), ascending in x.
    """

    name: str
    points: Sequence[tuple[float, float]]


class Mark(NamedTuple):
    """A single point, with what it is."""

    name: str
    x: float
    y: float


def colour(index: int) -> str:
    """The style's name for the colour of the nth of a kind."""
    return f"c{index % _N_COLOURS}"


def axis(
    label: str, values: Sequence[float], show: Callable[[float], str], is_log: bool = False
) -> Axis:
    """An axis that holds all values, with a little room around them."""
    low, high = min(values), max(values)
    if is_log:
        return Axis(label, low, max(high, 2.0 * low), show, True)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    floor_value = 0.0 if low >= 0.0 else low - room
    return Axis(label, max(low - room, floor_value), high + room, show)


def linear_ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten."""
    rough = (high - low) / (_MOST_TICKS - 1)
    power = 10.0 ** floor(log10(rough))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= rough * (1.0 - 1e-9))
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten; with their doubles and fives where there are few."""
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        ticks = [f * 10.0**n for n in decades for f in factors if low <= f * 10.0**n <= high]
        if len(ticks) >= 3:
            return ticks
    return ticks or [low, high]


def step_plot(
    title: str,
    x: Axis,
    y: Axis,
    lines: Sequence[Line],
    marks: Sequence[Mark] = (),
    bound: tuple[str, float] | None = None,
) -> Markup:
    """Lines in steps, with single points and one dashed horizontal line.

    Args:
        title: Read aloud in place of the picture.
        x: To the right.
        y: Upwards.
        lines: Each in its own colour and dashes.
        marks: Drawn as diamonds, with their names.
        bound: Name and height of the dashed line.
    """
    drawn = [_grid(x, y)]
    drawn += [_steps(line, index, x, y) for index, line in enumerate(lines)]
    drawn += [_diamond(mark, x, y) for mark in marks]
    if bound:
        at = percent(1.0 - y.fraction(bound[1]))
        drawn.append(tag("line", x1="0%", x2="100%", y1=at, y2=at, class_="bound"))
    picture = tag("svg", tag("title", title), *drawn, role="img", class_="plot")
    keys = [(line.name, _sample(index)) for index, line in enumerate(lines)]
    keys += [(mark.name, tag("svg", _diamond_shape(), class_="key")) for mark in marks]
    if bound:
        keys.append((bound[0], _bound_sample()))
    box = tag("div", picture, class_="plot-box")
    labels = tag("p", y.label, class_="y-label"), tag("p", x.label, class_="x-label")
    return tag("figure", labels[0], box, labels[1], legend(keys))


def legend(keys: Sequence[tuple[str, Markup]]) -> Markup:
    """Names, each with a small picture of what it stands for."""
    return tag("ul", *(tag("li", key, " ", name) for name, key in keys), class_="legend")


def grid_lines(x: Axis, y: Axis) -> Markup:
    """Lines and words at the ticks of both axes."""
    drawn = []
    for value in y.ticks():
        at = percent(1.0 - y.fraction(value))
        drawn.append(tag("line", x1="0%", x2="100%", y1=at, y2=at, class_="grid"))
        drawn.append(tag("text", y.show(value), x="-8", y=at, class_="y-tick"))
    for value in x.ticks():
        at = percent(x.fraction(value))
        drawn.append(tag("line", x1=at, x2=at, y1="0%", y2="100%", class_="grid"))
        drawn.append(tag("text", x.show(value), x=at, y="100%", dy="18", class_="x-tick"))
    return join(drawn)


def _grid(x: Axis, y: Axis) -> Markup:
    frame = tag("path", d="M0,0 V1000 H1000", vector_effect="non-scaling-stroke", class_="frame")
    return join([grid_lines(x, y), _stretched(frame)])


def _stretched(*shapes: Markup) -> Markup:
    """Shapes drawn on 1000 x 1000, pulled to the plot's size without pulling their strokes."""
    size = {"x": "0", "y": "0", "width": "100%", "height": "100%"}
    return tag("svg", *shapes, viewBox="0 0 1000 1000", preserveAspectRatio="none", **size)


def _steps(line: Line, index: int, x: Axis, y: Axis) -> Markup:
    spots = [(1000.0 * x.fraction(a), 1000.0 * (1.0 - y.fraction(b))) for a, b in line.points]
    moves = [f"M{spots[0][0]:.1f},{spots[0][1]:.1f}"]
    moves += [f"H{right[0]:.1f}V{right[1]:.1f}" for _, right in pairwise(spots)]
    path = tag(
        "path",
        d="".join(moves),
        vector_effect="non-scaling-stroke",
        stroke_dasharray=_dashes(index),
        class_=f"line stroke-{colour(index)}",
    )
    dots = [
        tag(
            "circle",
            cx=percent(a / 1000.0),
            cy=percent(b / 1000.0),
            r="3",
            class_=f"fill-{colour(index)}",
        )
        for a, b in spots
    ]
    return join([_stretched(path), *dots])


def _dashes(index: int) -> str | None:
    return _DASHES[index % len(_DASHES)]


def _sample(index: int) -> Markup:
    css = f"line stroke-{colour(index)}"
    line = tag(
        "line",
        x1="0",
        x2="100%",
        y1="50%",
        y2="50%",
        class_=css,
        stroke_dasharray=_dashes(index),
    )
    return tag("svg", line, class_="key")


def _bound_sample() -> Markup:
    line = tag("line", x1="0", x2="100%", y1="50%", y2="50%", class_="bound")
    return tag("svg", line, class_="key")


def _diamond(mark: Mark, x: Axis, y: Axis) -> Markup:
    at = {"x": percent(x.fraction(mark.x)), "y": percent(1.0 - y.fraction(mark.y))}
    shape = tag("path", d="M0,-8 L8,0 L0,8 L-8,0 Z", class_="mark")
    return tag("svg", shape, overflow="visible", width="1", height="1", **at)


def _diamond_shape() -> Markup:
    return tag("path", d="M14,-1 L20,6 L14,13 L8,6 Z", class_="mark")
