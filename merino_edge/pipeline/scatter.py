"""Scatter plots as inline SVG: dots that say what they are, a band, marks with their intervals.

The one idea: as in ``plots``, positions are percentages and dots keep their size. What a dot is
stands in its title, which a browser shows when it is pointed at and a reader speaks. Groups differ
in their shape, hollow or filled, and not in their colour alone. Nothing here knows what is plotted.
"""

from collections.abc import Sequence
from typing import NamedTuple

from merino_edge.pipeline.markup import Markup, join, percent, tag
from merino_edge.pipeline.plots import Axis, grid_lines, legend

Point = tuple[float, float]


class Dot(NamedTuple):
    """A single value and what it is."""

    x: float
    y: float
    title: str


class Dots(NamedTuple):
    """Values of one kind.

    Attributes:
        name: For the legend.
        dots: The values.
        is_hollow: Drawn as rings.
    """

    name: str
    dots: Sequence[Dot]
    is_hollow: bool = False


class Band(NamedTuple):
    """An area, and the line in its middle.

    Attributes:
        name: For the legend.
        corners: Of the area, around it.
        middle_name: What is true on the line.
        middle: Its two ends.
    """

    name: str
    corners: Sequence[Point]
    middle_name: str
    middle: tuple[Point, Point]


class Cross(NamedTuple):
    """A value with an interval in both directions.

    Attributes:
        x, y: The value.
        x_ends, y_ends: Its intervals.
        title: What it is.
    """

    x: float
    y: float
    x_ends: tuple[float, float]
    y_ends: tuple[float, float]
    title: str


class Crosses(NamedTuple):
    """Crosses of one kind, with their name."""

    name: str
    crosses: Sequence[Cross]


class Limit(NamedTuple):
    """A value that neither x nor y should exceed; a dashed line in both directions."""

    name: str
    value: float


def diagonal_band(name: str, middle_name: str, axis: Axis, factor: float) -> Band:
    """Where y is x, up to a factor; both directions are the same logarithmic axis.

    Args:
        name: For the legend.
        middle_name: The same for the diagonal.
        axis: Of both directions.
        factor: Above 1; the area ends where the axis does.
    """
    low, high = axis.low, axis.high
    factor = min(factor, high / low)
    upper = [(low, low), (low, low * factor), (high / factor, high)]
    lower = [(high, high), (high, high / factor), (low * factor, low)]
    return Band(name, upper + lower, middle_name, ((low, low), (high, high)))


def level_band(name: str, middle_name: str, x: Axis, ends: tuple[float, float]) -> Band:
    """Where y is between two values, over all x; the middle is y = 0."""
    low, high = x.low, x.high
    corners = [(low, ends[0]), (high, ends[0]), (high, ends[1]), (low, ends[1])]
    return Band(name, corners, middle_name, ((low, 0.0), (high, 0.0)))


def scatter_plot(
    title: str,
    x: Axis,
    y: Axis,
    groups: Sequence[Dots],
    band: Band,
    crosses: Crosses | None = None,
    limit: Limit | None = None,
) -> Markup:
    """Dots in front of a band.

    Args:
        title: Read aloud in place of the picture.
        x: To the right.
        y: Upwards.
        groups: Later ones lie above.
        band: Lies below all.
        crosses: Drawn as diamonds with their intervals, above all.
        limit: Of x and of y.
    """
    drawn = [grid_lines(x, y), _area(band, x, y), _line(*band.middle, x, y, "frame")]
    drawn += [_dot(dot, group.is_hollow, x, y) for group in groups for dot in group.dots]
    drawn += [_limit(limit, x, y)] if limit else []
    drawn += [_cross(cross, x, y) for cross in (crosses.crosses if crosses else ())]
    picture = tag("svg", tag("title", title), *drawn, role="img", class_="plot")
    labels = tag("p", y.label, class_="y-label"), tag("p", x.label, class_="x-label")
    box = tag("div", picture, class_="plot-box")
    return tag("figure", labels[0], box, labels[1], _legend(groups, band, crosses, limit))


def _at(point: Point, x: Axis, y: Axis) -> tuple[str, str]:
    return percent(x.fraction(point[0])), percent(1.0 - y.fraction(point[1]))


def _area(band: Band, x: Axis, y: Axis) -> Markup:
    """Drawn on 1000 x 1000 and pulled to the plot's size: a polygon knows no percentages."""
    corners = [(1000.0 * x.fraction(a), 1000.0 * (1.0 - y.fraction(b))) for a, b in band.corners]
    points = " ".join(f"{a:.2f},{b:.2f}" for a, b in corners)
    area = tag("polygon", tag("title", band.name), points=points, class_="fill-c4 again band")
    size = {"x": "0", "y": "0", "width": "100%", "height": "100%"}
    return tag("svg", area, viewBox="0 0 1000 1000", preserveAspectRatio="none", **size)


def _line(first: Point, last: Point, x: Axis, y: Axis, css: str) -> Markup:
    (x1, y1), (x2, y2) = _at(first, x, y), _at(last, x, y)
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=css)


def _dot(dot: Dot, is_hollow: bool, x: Axis, y: Axis) -> Markup:
    cx, cy = _at((dot.x, dot.y), x, y)
    css = "line stroke-c6" if is_hollow else "fill-c0"
    # What is hollow has to be hit on its ring; a reader points at the middle.
    events = "all" if is_hollow else None
    return tag(
        "circle",
        tag("title", dot.title),
        cx=cx,
        cy=cy,
        r="3.5",
        pointer_events=events,
        class_=css,
    )


def _limit(limit: Limit, x: Axis, y: Axis) -> Markup:
    across = (x.low, limit.value), (x.high, limit.value)
    upwards = (limit.value, y.low), (limit.value, y.high)
    return join([_line(*across, x, y, "bound"), _line(*upwards, x, y, "bound")])


def _cross(cross: Cross, x: Axis, y: Axis) -> Markup:
    across = [(end, cross.y) for end in cross.x_ends]
    upwards = [(cross.x, end) for end in cross.y_ends]
    left, top = _at((cross.x, cross.y), x, y)
    shape = tag("path", tag("title", cross.title), d="M0,-6 L6,0 L0,6 L-6,0 Z", class_="mark")
    diamond = tag("svg", shape, overflow="visible", width="1", height="1", x=left, y=top)
    lines = [_line(ends[0], ends[1], x, y, "loop") for ends in (across, upwards)]
    return tag("g", *lines, diamond)


def _legend(
    groups: Sequence[Dots], band: Band, crosses: Crosses | None, limit: Limit | None
) -> Markup:
    keys = [(group.name, _ring(group.is_hollow)) for group in groups]
    keys.append((band.name, _key(tag("rect", width="100%", height="100%", class_="fill-c4 again"))))
    keys.append((band.middle_name, _key(_level("frame"))))
    if limit:
        keys.append((limit.name, _key(_level("bound"))))
    if crosses:
        shape = tag("path", d="M14,0 L20,6 L14,12 L8,6 Z", class_="mark")
        keys.append((crosses.name, _key(shape)))
    return legend(keys)


def _ring(is_hollow: bool) -> Markup:
    css = "line stroke-c6" if is_hollow else "fill-c0"
    return _key(tag("circle", cx="50%", cy="50%", r="4", class_=css))


def _level(css: str) -> Markup:
    return tag("line", x1="0", x2="100%", y1="50%", y2="50%", class_=css)


def _key(shape: Markup) -> Markup:
    return tag("svg", shape, class_="key")
