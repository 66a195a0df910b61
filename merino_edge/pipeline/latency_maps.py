"""Heat maps of a latency table's model: what one layer takes, over its width and feed-forward size.

The one idea: the table timed whole decoders, so no cell was timed; a cell is the sum of the model's
prices for one layer. A layer's first application in a call reads its weights, a further one may
find them in a cache: two maps where the model tells them apart. A cell whose proportions no timed
decoder has is a guess, and grey.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from merino_edge.core.latency import layer_part
from merino_edge.core.table_latency import LatencyFit
from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.formats.latency_table import DECODE
from merino_edge.pipeline.heat_map import Cell, heat_map
from merino_edge.pipeline.latency_view import TableView, ms_words
from merino_edge.pipeline.markup import Markup, join, section, tag

_MOST_COLUMNS, _MOST_ROWS = 7, 10
_FEW_MS = 0.1  # maps of less are in microseconds, or a narrow screen has no room for the figures


class _Sizes(NamedTuple):
    """What the maps show: a block for each width, and feed-forward sizes; both ascend."""

    blocks: list[BlockSpec]
    d_ffs: list[int]
    ratios: tuple[float, float]  # least and most d_ff / d_model that was timed


def layer_maps(view: TableView) -> Markup:
    """What one layer takes."""
    title = "What one layer takes, predicted"
    if not view.fits:
        return section(title, view.missing or "The table has no rows.")
    sizes = _sizes(view)
    of = f"the space '{view.space.name}'" if view.space else "the table’s decoders"
    sentence = (
        "The time of one application of one layer, by the prices of the model: these are "
        f"predictions, the table timed whole decoders only. Sizes are those of {of}, some left "
        "out where there are many; heads as they have them. What does not fit a cache comes on top "
        "of a whole call and is not in it. More colour is slower. Grey figures without colour are "
        "guesses: no timed decoder has such proportions."
    )
    return section(title, sentence, *(_phase(fit, sizes, view) for fit in view.fits))


def _sizes(view: TableView) -> _Sizes:
    timed = [block for a in view.table.architectures.values() for block in a.blocks]
    ratios = [block.ffn_ratio for block in timed]
    blocks = _blocks_of_space(view) if view.space else timed
    by_width: dict[int, BlockSpec] = {}
    for block in blocks:
        by_width.setdefault(block.d_model, block)
    return _Sizes(
        [by_width[width] for width in thinned(sorted(by_width), _MOST_COLUMNS)],
        thinned(sorted({block.d_ff for block in blocks}), _MOST_ROWS),
        (min(ratios), max(ratios)),
    )


def _blocks_of_space(view: TableView) -> list[BlockSpec]:
    space = view.space
    assert space is not None
    return [
        space.block(width, ratio, space.depths[0])
        for width in space.d_models
        for ratio in space.ffn_ratios
    ]


def thinned(values: Sequence[int], most: int) -> list[int]:
    """At most so many of ascending values, evenly by their place, with the first and the last."""
    if len(values) <= most:
        return list(values)
    places = [round(i * (len(values) - 1) / (most - 1)) for i in range(most)]
    return [values[place] for place in places]


def _phase(fit: LatencyFit, sizes: _Sizes, view: TableView) -> Markup:
    length = view.longest(fit.phase)
    q_len = 1 if fit.phase == DECODE else length
    call = (
        f"a token after {length:,} others"
        if fit.phase == DECODE
        else f"a prompt of {length:,} tokens"
    )
    template = view.table.architectures[view.table.anchor]

    def layer_ms(block: BlockSpec, again: bool) -> float:
        return fit.part_ms(layer_part(_with(block, template), 0, q_len, length, again))

    first = _cells(sizes, lambda block: layer_ms(block, False))
    again = _cells(sizes, lambda block: layer_ms(block, True))
    heading = tag("h3", f"{fit.phase}: {call}")
    if first == again:
        note = "A layer that is applied again takes as long: no block is held to stay in a cache."
        maps = _maps({"each application": first}, sizes)
        return join([heading, tag("p", note, class_="note"), *maps])
    maps = _maps({"first application": first, "applied again in the same call": again}, sizes)
    return join([heading, *maps])


def _with(block: BlockSpec, template: Architecture) -> Architecture:
    return template.replace(blocks=(block,))


def _cells(sizes: _Sizes, layer_ms: Callable[[BlockSpec], float]) -> list[list[Cell]]:
    return [
        [_cell(block._replace(d_ff=d_ff), sizes, layer_ms) for block in sizes.blocks]
        for d_ff in sizes.d_ffs
    ]


def _cell(block: BlockSpec, sizes: _Sizes, layer_ms: Callable[[BlockSpec], float]) -> Cell:
    low, high = sizes.ratios
    is_guess = not 0.99 * low <= block.ffn_ratio <= 1.01 * high
    ms = layer_ms(block)
    title = (
        f"width {block.d_model}, {block.n_head} heads, feed-forward {block.d_ff}: "
        f"predicted {ms_words(ms)}{', a guess' if is_guess else ''}"
    )
    return Cell(ms, title, is_guess)


def _maps(of: dict[str, list[list[Cell]]], sizes: _Sizes) -> list[Markup]:
    """Maps to compare: of one unit, and their colours mean the same."""
    values = [cell.value for cells in of.values() for row in cells for cell in row]
    unit, factor = ("ms", 1.0) if max(values) >= _FEW_MS else ("µs", 1000.0)
    ends = factor * min(values), factor * max(values)
    return [
        heat_map(
            f"Predicted time of a layer, {words}",
            "width",
            f"feed-forward size; cells: {unit}, {words}",
            [str(block.d_model) for block in sizes.blocks],
            [str(d_ff) for d_ff in sizes.d_ffs],
            [[cell._replace(value=factor * cell.value) for cell in row] for row in cells],
            ends,
        )
        for words, cells in of.items()
    ]
