"""Bars as inline SVG: a whole cut into its parts, and how much of a limit is used up.

The one idea: as in ``plots``, lengths are percentages and words keep their size. No part is known
by its colour alone: it carries its letter where there is room, and a table beside it has all.
"""

from collections.abc import Sequence
from typing import NamedTuple

from merino_edge.pipeline.markup import Markup, join, percent, tag
from merino_edge.pipeline.plots import legend

_LEAST_LABELLED = 0.06  # of a bar's length; less has no room for a letter
_LEAST_SHARE_LABELLED = 0.22  # less has no room for its percentage


class Share(NamedTuple):
    """A part of a stacked bar: its letter, its name, its amount, and its colour of the style."""

    letter: str
    name: str
    amount: float
    colour: str


def stacked_bar(title: str, shares: Sequence[Share]) -> Markup:
    """One bar, its parts side by side and together all of its length."""
    whole = sum(share.amount for share in shares)
    parts, start = [], 0.0
    for share in shares:
        fraction = share.amount / whole if whole else 0.0
        parts.append(_segment(share, start, fraction))
        start += fraction
    return tag("svg", tag("title", title), *parts, role="img", class_="stack")


def share_legend(shares: Sequence[Share]) -> Markup:
    """Which letter and colour means which part."""
    keys = []
    for share in shares:
        letter = tag("text", share.letter, x="50%", y="50%", class_=f"on-{share.colour}")
        box = tag("rect", width="100%", height="100%", class_=f"fill-{share.colour}")
        keys.append((share.name, tag("svg", box, letter, class_="key square")))
    return legend(keys)


def used_bar(title: str, fraction: float) -> Markup:
    """How much of a limit is used up: a full bar is all of it."""
    track = tag("rect", width="100%", height="100%", class_="track")
    used = tag("rect", width=percent(min(fraction, 1.0)), height="100%", class_="used")
    return tag("svg", tag("title", title), track, used, role="img", class_="bar")


def _segment(share: Share, start: float, fraction: float) -> Markup:
    box = tag(
        "rect",
        x=percent(start),
        width=percent(fraction),
        height="100%",
        class_=f"fill-{share.colour} segment",
    )
    if fraction < _LEAST_LABELLED:
        return box
    words = share.letter
    if fraction >= _LEAST_SHARE_LABELLED:
        words += f": {100.0 * fraction:.0f} %"
    label = tag(
        "text", words, x=percent(start + fraction / 2.0), y="50%", class_=f"on-{share.colour}"
    )
    return join([box, label])
