"""A decoder drawn block by block, so that its shape is seen at a glance.

The one idea: width on the page is width of the residual stream, height is how often something
runs. A block is one filled bar, its set of weights, with a pale bar under it for every further
pass through the same weights, and an arrow back up; notches in the filled bar are its heads. Where
the width changes a trapezoid joins the two. Words stand to the right, at their own size.
"""

from collections.abc import Sequence
from typing import NamedTuple

from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.pipeline.markup import Markup, join, percent, tag
from merino_edge.pipeline.plots import colour

_WIDEST = 0.40  # of the drawing's width
_MIDDLE = 0.21
_WORDS_AT = "50%"
_LINE_PX = 18
_GAP_PX = 3
_JOINT_PX = 26
_PASSES_PX = 340  # all passes together; with many, each gets lower
_PASS_PX = (4, 16)  # least and most of one


class _Row(NamedTuple):
    """A part of the drawing: what is drawn, the words beside it, and its height."""

    shapes: Markup
    words: Sequence[str]
    height_px: float


def draw_architecture(a: Architecture) -> Markup:
    """The whole chain as one SVG, input at the top."""
    widest = max(a.embed_dim, *(block.d_model for block in a.blocks))
    rows, width = [_embedding(a, widest)], a.embed_dim
    for index, block in enumerate(a.blocks):
        if block.d_model != width:
            rows.append(_joint(width, block.d_model, widest))
        rows.append(_block(a, index, widest))
        width = block.d_model
    if width != a.embed_dim:
        rows.append(_joint(width, a.embed_dim, widest))
    rows.append(_head(a, widest))
    title = f"{len(a.blocks)} blocks, {a.n_layers} layers, widest {widest}"
    return _stack(title, rows)


def _stack(title: str, rows: Sequence[_Row]) -> Markup:
    drawn, top = [], 0.0
    for row in rows:
        words = [
            tag(
                "text",
                line,
                x=_WORDS_AT,
                y=float(13 + _LINE_PX * i),
                class_="strong" if not i else None,
            )
            for i, line in enumerate(row.words)
        ]
        size = {"x": "0", "y": top, "width": "100%", "height": row.height_px}
        drawn.append(tag("svg", row.shapes, *words, overflow="visible", **size))
        top += row.height_px + _GAP_PX
    return tag("svg", tag("title", title), *drawn, role="img", class_="blocks", height=top)


def _edges(width: int, widest: int) -> tuple[float, float]:
    half = _WIDEST * width / widest / 2.0
    return _MIDDLE - half, _MIDDLE + half


def _bar(width: int, widest: int, top: float, height: float, css: str) -> Markup:
    left, right = _edges(width, widest)
    place = {"x": percent(left), "y": top, "width": percent(right - left), "height": height}
    return tag("rect", rx="2", class_=css, **place)


def _embedding(a: Architecture, widest: int) -> _Row:
    words = ["embedding", f"{a.vocab_size:,} tokens, width {a.embed_dim:,}"]
    bar = _bar(a.embed_dim, widest, 4.0, 26.0, "fill-ends")
    return _Row(bar, words, 2.0 * _LINE_PX + 6.0)


def _head(a: Architecture, widest: int) -> _Row:
    stored = "the embedding again" if a.tie_embeddings else "weights of its own"
    words = ["head", f"{a.vocab_size:,} logits", stored]
    return _Row(_bar(a.embed_dim, widest, 4.0, 26.0, "fill-ends"), words, 3.0 * _LINE_PX + 6.0)


def _joint(before: int, after: int, widest: int) -> _Row:
    (a, b), (c, d) = (_edges(width, widest) for width in (before, after))
    corners = [(a, 0), (b, 0), (d, 100), (c, 100)]
    points = " ".join(f"{100.0 * x:.2f},{y}" for x, y in corners)
    size = {"x": "0", "y": "0", "width": "100%", "height": "100%"}
    shape = tag(
        "svg",
        tag("polygon", points=points, class_="fill-joint"),
        viewBox="0 0 100 100",
        preserveAspectRatio="none",
        **size,
    )
    return _Row(shape, [f"joint, {before:,} to {after:,}"], _JOINT_PX)


def _block(a: Architecture, index: int, widest: int) -> _Row:
    block, own = a.blocks[index], colour(index)
    low, high = _PASS_PX
    height = float(min(high, max(low, _PASSES_PX // a.n_layers)))
    passes = [
        _bar(
            block.d_model,
            widest,
            i * (height + _GAP_PX),
            height,
            f"fill-{own}" if not i else f"again fill-{own} stroke-{own}",
        )
        for i in range(block.depth)
    ]
    bottom = block.depth * (height + _GAP_PX)
    shapes = [*passes, _notches(block.d_model, block.n_head, widest, height)]
    if block.depth > 1:
        shapes.append(_loop(_edges(block.d_model, widest)[1], height / 2.0, bottom - height / 2.0))
    words = [f"block {index + 1}: × {block.depth}", *_block_words(block)]
    return _Row(join(shapes), words, max(bottom, float(_LINE_PX * len(words))) + 4.0)


def _block_words(block: BlockSpec) -> list[str]:
    sets = "one set of weights" if block.depth > 1 else "one pass, own weights"
    heads = "1 head" if block.n_head == 1 else f"{block.n_head} heads"
    if block.n_kv_head != block.n_head:
        heads += f" ({block.n_kv_head} for keys)"
    return [
        sets,
        f"width {block.d_model:,}, {heads}",
        f"feed-forward {block.d_ff:,}",
    ]


def _notches(width: int, n_head: int, widest: int, height: float) -> Markup:
    """Lines between the heads, in the upper half of the filled bar."""
    left, right = _edges(width, widest)
    places = [percent(left + (right - left) * i / n_head) for i in range(1, n_head)]
    return join(tag("line", x1=x, x2=x, y1=0.0, y2=height / 2.0, class_="notch") for x in places)


def _loop(right: float, top: float, bottom: float) -> Markup:
    """An arrow from the last pass back to the first."""
    bottom = max(bottom, top + 8.0)
    way = f"M5,{bottom:.1f} C28,{bottom:.1f} 28,{top:.1f} 7,{top:.1f}"
    tip = f"M13,{top - 4.5:.1f} L6,{top:.1f} L13,{top + 4.5:.1f}"
    place = {"x": percent(right), "y": "0", "width": "30", "height": "100%"}
    return tag("svg", tag("path", d=way + tip, class_="loop"), overflow="visible", **place)
