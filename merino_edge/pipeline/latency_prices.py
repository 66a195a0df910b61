"""The prices of a latency table's model: what it thinks costs time, and what it thinks of caches.

The one idea: a model that can be read can be doubted. A price stands with its unit and with what it
makes of one decoder that people can imagine, the anchor. Caches are what explains the times best,
not what a data sheet says.
"""

from merino_edge.core.latency_work import CALL_TOKENS, WORK, total_read_mb, total_work
from merino_edge.core.table_latency import LatencyFit
from merino_edge.formats.architecture import describe
from merino_edge.formats.latency_table import Workload
from merino_edge.pipeline.latency_view import CALLS, TableView, ms_words
from merino_edge.pipeline.markup import Markup, items, join, section, table, tag
from merino_edge.pipeline.quantities import share

# What one unit of each kind of work is.
_UNITS = {
    "call": f"one call of the decoder, at most {CALL_TOKENS} tokens",
    "layer": "one layer applied, whatever its size, a call",
    "layer width": "1,000 numbers of a layer’s width, a token",
    "layer inner width": "1,000 numbers of its feed-forward size, a token",
    "weights first": "a million weights that come from memory, a call",
    "weights again": "a million weights that stayed in a cache, a call",
    "weights x tokens": "a million weights multiplied, a token",
    "attention": "a million multiplications of queries and keys",
    "attention rows": "10,000 pairs of a query and a key, a head",
    "head weights": "a million weights of the output head, a call",
    "joint weights": "a million weights between blocks, a token",
}


def prices(view: TableView) -> Markup:
    """What costs what."""
    title = "What costs what"
    if not view.fits:
        return section(title, view.missing or "The table has no rows.")
    anchor = view.table.architectures[view.table.anchor]
    sentence = (
        "The model adds up kinds of work, each at one price, found as the non-negative prices that "
        "explain the fitted rows best. A kind without a price costs nothing that others do not "
        "explain already. Beside each price stands what it makes of the anchor, "
        f"{describe(anchor)}, at the longest length that was timed."
    )
    header = ["kind of work", "one unit is"]
    for fit in view.fits:
        header += [f"{fit.phase}: ms a unit", f"{fit.phase}: of the anchor"]
    columns = [_columns(fit, view) for fit in view.fits]
    rows = [
        [name, unit, *(cell for column in columns for cell in column[name])]
        for name, unit in [*_UNITS.items(), ("spill", "a megabyte more than a cache holds, a call")]
    ]
    caches = [join([tag("h3", f"Caches, {fit.phase}"), items(_caches(fit))]) for fit in view.fits]
    return section(title, sentence, table(header, rows, 2), *caches)


def _columns(fit: LatencyFit, view: TableView) -> dict[str, tuple[str, str]]:
    """Kind of work -> its price, and its share of the anchor's longest call."""
    anchor = view.table.architectures[view.table.anchor]
    load = Workload(fit.phase, view.longest(fit.phase))
    done = total_work(anchor, load, fit.cached_weights).tolist()
    spilled_mb = max(0.0, total_read_mb(anchor, load, fit.stored) - fit.capacity_mb)
    names, by_unit = [*WORK, "spill"], [*fit.prices_ms, fit.spill_ms_per_mb]
    costs = [n * price for n, price in zip([*done, spilled_mb], by_unit, strict=True)]
    whole = sum(costs)
    return {
        name: (_price(price, whole), share(cost / whole) if cost > _least(whole) else "")
        for name, price, cost in zip(names, by_unit, costs, strict=True)
    }


def _least(whole_ms: float) -> float:
    """Less is what least squares leave of a zero."""
    return 1e-9 * whole_ms


def _price(price: float, whole_ms: float) -> str:
    return f"{price:.3g}" if price > _least(whole_ms) else "none"


def _caches(fit: LatencyFit) -> list[str]:
    """What the model thinks of caches, as sentences."""
    reach = (
        f"Fitted to {fit.n_rows} rows from {ms_words(fit.reach[0])} to {ms_words(fit.reach[1])}; "
        "far outside that, a sum of prices is a guess."
    )
    source = (
        "Sizes of caches are those that foretell the rows best, not read from the machine; "
        f"where a tenth of the decoders was foretold by the others, the mean error was "
        f"{share(fit.fold_mape)}."
    )
    return [_what_stays(fit), _what_spills(fit), source, reach]


def _what_stays(fit: LatencyFit) -> str:
    first, again = (fit.prices_ms[WORK.index(f"weights {name}")] for name in ("first", "again"))
    if not fit.cached_weights or first == again:
        return "No block is held to stay in a cache between two applications in one call."
    mb = fit.cached_weights * fit.stored.weight * 1e-6
    return (
        f"A block of at most {fit.cached_weights:,} weights ({mb:.3g} MB) stays in a cache "
        f"between two applications in one call: a million of its weights then cost "
        f"{again:.3g} ms instead of {first:.3g} ms"
        f"{', which no cache explains' if again > first else ''}."
    )


def _what_spills(fit: LatencyFit) -> str:
    if fit.spill_ms_per_mb <= 0.0:
        return "Nothing is held to be slower for being more than a cache holds."
    return (
        f"Of all that {CALLS[fit.phase]} reads, weights and past, {fit.capacity_mb:.3g} MB "
        f"come from a cache; each megabyte more costs {fit.spill_ms_per_mb:.3g} ms on top."
    )
