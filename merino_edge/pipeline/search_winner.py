"""The report's first half: the winner, what it costs, and what its parts contribute.

The one idea: a section is a function of the result, and opens with one plain sentence that says
what one sees and how it was got. A section whose data is missing says so instead of vanishing.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from merino_edge.formats.architecture import Architecture, describe
from merino_edge.pipeline import search_words as words
from merino_edge.pipeline.bars import Share, share_legend, stacked_bar, used_bar
from merino_edge.pipeline.block_drawing import draw_architecture
from merino_edge.pipeline.markup import Markup, join, section, table, tag
from merino_edge.pipeline.plots import colour
from merino_edge.pipeline.quantities import exact, human, used
from merino_edge.pipeline.report_style import fact_list, head
from merino_edge.search.objectives import ENTROPY
from merino_edge.search.result import PartShare, SearchResult


def shape(a: Architecture) -> Markup:
    """An architecture in one line that breaks between its blocks only."""
    blocks = describe(a).replace(" | ", " |\n").split("\n")
    return tag("code", join((tag("span", block) for block in blocks), " "), class_="shape")


def cost_heading(cost: words.CostWords, result: SearchResult, is_grey: bool = False) -> Markup:
    """The name of a cost, and below it where it comes from."""
    basis = tag("span", words.basis(cost, result.best.cost), class_="basis")
    return tag("span", cost.name(result.at), basis, class_="unlimited" if is_grey else None)


def summary(result: SearchResult) -> Markup:
    """Who won, what was asked, and what is proven."""
    a, config = result.best.architecture, result.config
    objective = words.objective_words(config.objective)
    facts = {
        "shape": shape(a),
        objective.name: words.total_words(_total(result), config.objective),
        "space": result.space,
        "target": result.target,
        "budget": words.budget_words(result.budget),
        "found by": words.method_words(result),
        "candidates": f"{result.n_evaluated:,} scored",
        "time": words.time_words(result),
    }
    sentence = (
        f"The member of the space with the highest {objective.name} ({objective.meaning}) "
        "that was found within the budget. Counts are exact; latencies and energies are "
        "predictions and say so; nothing on this page was measured."
    )
    title = ("Search report: architecture ", tag("code", a.arch_id))
    verdict = words.verdict(result.certificate, config.objective)
    return head(title, verdict, sentence, fact_list(facts))


def _total(result: SearchResult) -> float:
    """The winner's objective; where only the search can tell, what its best seed reported."""
    known = words.objective_of(result.best, result.config.objective)
    return known if known is not None else max(run.best_total for run in result.seeds)


def architecture(result: SearchResult) -> Markup:
    """The blocks, drawn."""
    a = result.best.architecture
    sentence = (
        "Data flows from top to bottom, and a bar is as wide as the residual stream. A filled bar "
        "is one set of weights, notched between its heads; each pale bar under it is a further "
        f"pass through the same weights. In all {len(a.blocks)} sets of weights make "
        f"{a.n_layers} layers."
    )
    position = "a learned table" if a.position == "learned" else "rotary"
    conditions = (
        f"{a.norm} before each sublayer, positions by {position}, {a.activation}"
        f"{', gated' if a.gated_ffn else ''}, sequences of up to {a.max_seq_len:,} tokens."
    )
    return section(
        "The architecture", sentence, draw_architecture(a), tag("p", conditions, class_="note")
    )


def costs(result: SearchResult) -> Markup:
    """Every cost, with its limit where there is one."""
    rows = sorted(words.COSTS, key=lambda c: words.limit_on(c.cost, result.budget) is None)
    sentence = (
        "A full bar has used up its limit; grey rows have no limit. Memory is weights, cache and "
        "activations, without the runtime's own."
    )
    header = ("cost", "value", "limit", "used of the limit")
    return section("What it costs", sentence, table(header, [_cost_row(c, result) for c in rows]))


def _cost_row(cost: words.CostWords, result: SearchResult) -> list[object]:
    value = getattr(result.best.cost, cost.cost)
    limit = words.limit_on(cost.cost, result.budget)
    name = cost_heading(cost, result, limit is None)
    if value is None:
        return [name, "not known", "", ""]
    bar: object = ""
    if limit is not None:
        part = used(value / limit)
        bar = join([part, used_bar(f"{cost.name(result.at)}: {part} of its limit", value / limit)])
    shown_limit = "" if limit is None else human(limit, cost.unit)
    return [name, _amount(value, cost), shown_limit, bar]


def _amount(value: float, cost: words.CostWords) -> Markup:
    """A rounded value; a count with all its digits below."""
    rounded = human(value, cost.unit)
    if cost.is_predicted:
        return tag("span", rounded)
    return tag("span", rounded, tag("span", exact(value), class_="basis"))


def shares(result: SearchResult) -> Markup:
    """What each part contributes."""
    parts, columns = result.parts, _share_columns(result)
    bars = [_share_bar(name, [(p, value(p)) for p in parts]) for name, value, _ in columns]
    legend = share_legend(_letters([(part, 0.0) for part in parts]))
    header = ["part", *(name for name, _, _ in columns)]
    rows = [[part.name, *(show(value(part)) for _, value, show in columns)] for part in parts]
    entropy = result.best.entropy
    made = (
        f" Entropy is shown before the effectiveness: the {exact(entropy.raw)} nats of all "
        f"parts times {entropy.effectiveness:.4f} (at a depth-to-width ratio of "
        f"{entropy.gamma:.4f}) are {exact(entropy.total)} nats."
    )
    sentence = (
        "Each bar is the whole decoder, cut into what its parts contribute: a block with all its "
        "passes, the joints where the width changes, the two ends."
        + (made if result.config.objective == ENTROPY else "")
    )
    return section("Where it comes from", sentence, legend, *bars, table(header, rows))


class _Column(NamedTuple):
    """What is shared out: its title, a part's amount, and the amount in words."""

    title: str
    amount: Callable[[PartShare], float | None]
    show: Callable[[float | None], str]


def _share_columns(result: SearchResult) -> list[_Column]:
    latency = words.basis(words.cost_words("latency_ms"), result.best.cost)
    prompt = f"FLOPs of a prompt of {result.at.prompt_len:,}"
    entropy = _Column("entropy (nats)", lambda p: p.entropy, _shown_in_full)
    columns = [
        _Column("stored parameters", lambda p: p.n_params, _shown("")),
        _Column(prompt, lambda p: p.prefill_flops, _shown("")),
        _Column(f"latency of a token, {latency}", lambda p: p.latency_ms, _shown("ms")),
    ]
    return [entropy, *columns] if result.config.objective == ENTROPY else columns


def _shown(unit: str) -> Callable[[float | None], str]:
    return lambda value: "not known" if value is None else human(value, unit)


def _shown_in_full(value: float | None) -> str:
    return "not known" if value is None else exact(value)


def _share_bar(name: str, amounts: Sequence[tuple[PartShare, float | None]]) -> Markup:
    known = [(part, value) for part, value in amounts if value is not None]
    heading = tag("p", name, class_="share-name")
    if len(known) < len(amounts):
        return join([heading, tag("p", "Not known for this target.", class_="note")])
    return join([heading, stacked_bar(name, _letters(known))])


def _letters(amounts: Sequence[tuple[PartShare, float]]) -> list[Share]:
    """Blocks by their number, the rest by its first letter."""
    found = []
    for index, (part, amount) in enumerate(amounts):
        kind, _, number = part.name.partition(" ")
        if kind == "block":
            found.append(Share(number, part.name, amount, colour(index)))
        else:
            css = "joint" if kind == "joints" else "ends"
            found.append(Share(kind[:1].upper(), part.name, amount, css))
    return found
