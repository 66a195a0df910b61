"""HTML and SVG as values: an element is text that is known to be safe.

The one idea: plain strings are escaped, ``Markup`` is not, and only ``tag`` makes it. So nobody can
forget to escape a name that came from a file. Elements close themselves as in XML, which browsers
accept and which any XML reader can check. Nothing here knows what a page says.
"""

from collections.abc import Iterable, Sequence
from html import escape

_UNSAFE_IN_XML = {code: "\ufffd" for code in range(32) if code not in (9, 10, 13)}


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Escaped, unless it is ``Markup``; control characters, which no page holds, are replaced."""
    if isinstance(value, Markup):
        return value
    return Markup(escape(str(value).translate(_UNSAFE_IN_XML)))


def join(parts: Iterable[object], between: str = "") -> Markup:
    """One after the other; ``between`` is put as it is."""
    return Markup(between.join(text(part) for part in parts))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element.

    Args:
        name: Of the element.
        children: What it holds; plain strings are escaped.
        attributes: ``class_`` is "class", ``stroke_width`` is "stroke-width"; None is left out,
            floats are shortened.
    """
    pairs = [
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    ]
    opening = f"<{name}{''.join(pairs)}"
    return Markup(f"{opening}>{join(children)}</{name}>" if children else f"{opening}/>")


def _attribute(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else text(value)


def percent(fraction: float) -> str:
    """A length in SVG: that part of the width or height of what it stands in."""
    return f"{100.0 * fraction:.3f}".rstrip("0").rstrip(".") + "%"


def table(header: Sequence[object], rows: Iterable[Sequence[object]], words: int = 1) -> Markup:
    """A table that scrolls sideways where the screen is narrow.

    Args:
        header: A title for each column.
        rows: Cells; the first of a row is its heading.
        words: How many columns hold words; those after them hold numbers and stand right.
    """

    def line(row: Sequence[object], first: str, others: str, scope: str) -> Markup:
        kinds = [first] + [others] * (len(row) - 1)
        return tag(
            "tr",
            *(
                tag(
                    kind,
                    cell,
                    scope=scope if kind == "th" else None,
                    class_="number" if index >= words else None,
                )
                for index, (kind, cell) in enumerate(zip(kinds, row, strict=True))
            ),
        )

    head = tag("thead", line(header, "th", "th", "col"))
    body = tag("tbody", *(line(row, "th", "td", "row") for row in rows))
    return tag("div", tag("table", head, body), class_="scroll")


def section(title: str, sentence: object, *content: object) -> Markup:
    """A part of the page: its title, what one sees there, and then that."""
    return tag("section", tag("h2", title), tag("p", sentence, class_="lead"), *content)


def items(entries: Iterable[object]) -> Markup:
    """A list with bullets."""
    return tag("ul", *(tag("li", entry) for entry in entries))
