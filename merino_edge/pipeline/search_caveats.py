"""The report's last part: what a reader must not conclude, and under which conditions it holds."""

from merino_edge import __version__
from merino_edge.core.entropy import EntropyConfig
from merino_edge.pipeline import search_words as words
from merino_edge.pipeline.markup import Markup, items, section
from merino_edge.search.objectives import ENTROPY
from merino_edge.search.result import SearchResult


def caveats(result: SearchResult) -> Markup:
    """What a reader must not conclude."""
    return section(
        "What this does not say",
        "Before you rely on this page, know what it leaves open.",
        items([_what_the_objective_is(result), *_conditions(result)]),
    )


def _what_the_objective_is(result: SearchResult) -> str:
    if result.config.objective != ENTROPY:
        name = words.objective_words(result.config.objective).name
        return (
            f"The objective, {name}, is a baseline to compare others with. It is not a loss: "
            "nothing was trained, and more of it need not mean a better model."
        )
    config = result.config.entropy
    source = "the defaults of this program" if config == EntropyConfig() else "set for this search"
    return (
        "Entropy is a proxy, not a loss: it is computed from shapes alone, nothing was trained, "
        "and more of it need not mean a better model. Its constants are alpha = "
        f"({config.alpha1:g}, {config.alpha2:g}), eps = {config.eps:g}, gamma0 = "
        f"{config.gamma0:g}, effectiveness '{config.form}': {source}. Those of the paper behind "
        "the method (MeRino, arXiv 2403.07921) were not published where we could read them."
    )


def _prediction(result: SearchResult) -> str:
    cost, target = result.best.cost, result.target
    if cost.latency_basis == "table":
        return (
            f"Latencies are foretold by a table of latencies for the target '{target}', and the "
            "limit binds the upper end of its interval; what the table is worth stands on a page "
            "of its own. Energy is the power that the table measured, or else the target's limit, "
            "times the latency."
        )
    if cost.latency_ms is None:
        return f"Of the target '{target}' too little is known to predict a latency."
    return (
        f"Latency and energy are {words.basis(words.cost_words('latency_ms'), cost)} for the "
        f"target '{target}', not measured. A real device adds overhead for every kernel, and a "
        "clock that throttles; energy is the power limit times the latency."
    )


def _conditions(result: SearchResult) -> list[str]:
    at = result.at
    conditions = [
        _prediction(result),
        f"Costs are quoted for a prompt of {at.prompt_len:,} tokens and a context of "
        f"{at.context_len:,}. FLOPs are two for each multiply-accumulate of matrix products; those "
        "of the prompt leave out the head.",
        "A proof, where there is one, is about this space, this budget and this objective; a "
        "larger space may hold more.",
        f"Made by merino-edge {__version__}.",
    ]
    if at.tokens_per_reference != 1.0:
        conditions.insert(
            2,
            f"The vocabulary was part of the search: {at.tokens_per_reference:.3f} tokens of this "
            "one carry as much text as one of the reference, so lengths, and costs of a token, "
            "are quoted for as much text.",
        )
    return conditions
