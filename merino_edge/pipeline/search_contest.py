"""The report's second half: how the winner was found, and what it beat.

The one idea: a winner convinces by its rivals: other seeds, tighter limits, its neighbours, its
forefathers, the next best. As in the first half a section is a function of the result.
"""

from collections.abc import Sequence

from merino_edge.pipeline import search_words as words
from merino_edge.pipeline.markup import Markup, join, section, table, tag
from merino_edge.pipeline.plots import Line, Mark, axis, step_plot
from merino_edge.pipeline.quantities import at_most, difference, exact, human, share
from merino_edge.pipeline.search_winner import cost_heading, shape
from merino_edge.search.candidate import Candidate
from merino_edge.search.result import FrontPoint, Neighbour, SearchResult, SeedRun

_LINES_BEFORE_FOLDING = 12


def convergence(result: SearchResult) -> Markup:
    """How each seed found what it found."""
    title, objective = "How the seeds converged", words.objective_words(result.config.objective)
    lines = [
        Line(_seed_name(run, result), points)
        for run in result.seeds
        if (points := [(s.n_evaluated, s.best_total) for s in run.history if s.n_fitting])
    ]
    if not lines:
        return section(title, "No seeds are in this result, so there is nothing to show.")
    bound = result.certificate and result.certificate.upper_bound
    values = [y for line in lines for _, y in line.points] + ([bound] if bound else [])
    candidates = [x for line in lines for x, _ in line.points]
    plot = step_plot(
        f"Best {objective.name} against candidates scored, one line a seed",
        axis("candidates scored, logarithmic", candidates, human, is_log=True),
        axis(objective.heading, values, lambda value: human(value, digits=6)),
        lines,
        bound=("proven upper bound", bound) if bound else None,
    )
    sentence = (
        f"The highest {objective.name} so far among candidates that keep the budget, against the "
        "candidates scored; every seed starts from other random members. Each line begins where "
        "something first fits."
    )
    return section(title, sentence, plot, _seed_table(result))


def _seed_name(run: SeedRun, result: SearchResult) -> str:
    is_open = len({other.vocab_size for other in result.seeds}) > 1
    return f"seed {run.seed}" + (f", vocabulary {run.vocab_size:,}" if is_open else "")


def _fits(run: SeedRun) -> bool:
    return run.history[-1].n_fitting > 0


def _seed_table(result: SearchResult) -> Markup:
    name, rows = result.config.objective, []
    best = max(run.best_total for run in result.seeds if _fits(run))
    for run in result.seeds:
        if not _fits(run):
            rows.append([_seed_name(run, result), "nothing that fits", "", "", ""])
            continue
        reached = (step for step in run.history if step.best_total == run.best_total)
        first = next(step for step in reached if step.n_fitting)
        total, behind = exact(run.best_total), difference(run.best_total, best)
        found = tag("code", run.arch_id)
        rows.append([_seed_name(run, result), found, total, behind, f"{first.n_evaluated:,}"])
    title = words.objective_words(name).heading
    return table(("seed", "found", title, "against the best seed", "after candidates"), rows, 2)


def front(result: SearchResult) -> Markup:
    """The objective against one cost."""
    objective, title = words.objective_words(result.config.objective), "The front"
    if result.front is None:
        return section(title, "No front was asked for in this search.")
    cost = words.cost_words(result.front.axis)
    label = cost.name(result.at)
    if cost.is_predicted:
        label += f", {words.basis(cost, result.best.cost)}"
    sentence = (
        f"The most {objective.name} that was found under each limit on one cost, {label}, and "
        "under all limits of the budget. Going left saves cost, going down loses "
        f"{objective.name}; no point is beaten in both."
    )
    spots = [
        (getattr(candidate.cost, cost.cost), words.objective_of(candidate, result.config.objective))
        for candidate in [*(point.candidate for point in result.front.points), result.best]
    ]
    known = [(x, y) for x, y in spots if y is not None]
    plot = _front_plot(label, cost, known, objective) if len(known) == len(spots) else Markup()
    header = ("shape", objective.name, "cost", "limit", "proven")
    rows = [_front_row(point, cost, result) for point in result.front.points]
    return section(title, sentence, plot, table(header, rows))


def _front_plot(
    label: str,
    cost: words.CostWords,
    spots: Sequence[tuple[float, float]],
    objective: words.ObjectiveWords,
) -> Markup:
    *points, (x, y) = spots
    costs_, totals = zip(*spots, strict=True)
    return step_plot(
        f"{objective.name} against {label}",
        axis(label, costs_, lambda v: human(v, cost.unit), max(costs_) > 20 * min(costs_)),
        axis(objective.heading, totals, lambda value: human(value, digits=6)),
        [Line("best under each limit", sorted(points))],
        [Mark("chosen", x, y)],
    )


def _front_row(point: FrontPoint, cost: words.CostWords, result: SearchResult) -> list[object]:
    candidate = point.candidate
    is_chosen = candidate.architecture == result.best.architecture
    gap = "no" if point.gap is None else f"within {at_most(point.gap)}"
    return [
        join([shape(candidate.architecture), " ◆ chosen" if is_chosen else ""]),
        _objective_cell(candidate, result),
        human(getattr(candidate.cost, cost.cost), cost.unit),
        human(point.limit, cost.unit),
        gap,
    ]


def neighbours(result: SearchResult) -> Markup:
    """What lies one step away, and why it lost."""
    objective = words.objective_words(result.config.objective)
    rows = [
        [
            neighbour.change,
            _reasons(neighbour.candidate, result),
            _against_best(neighbour.candidate, result),
        ]
        for neighbour in sorted(result.neighbours, key=lambda n: _temptation(n, result))
    ]
    sentence = (
        "Every member that differs from the winner by one step in one choice, priced and scored "
        f"in full. First those with more {objective.name} that only miss a limit, then those "
        "that fit, then the rest."
    )
    header = ("change", "why it lost", objective.name)
    return section("Why not its neighbours", sentence, table(header, rows, words=2))


def _temptation(neighbour: Neighbour, result: SearchResult) -> tuple[int, float]:
    """More but too dear; then what fits; then less and too dear. Within each, most first."""
    name, misses = result.config.objective, bool(neighbour.candidate.violations)
    total, best = (words.objective_of(c, name) or 0.0 for c in (neighbour.candidate, result.best))
    return (0 if misses and total > best else 2 if misses else 1), -total


def _reasons(candidate: Candidate, result: SearchResult) -> Markup:
    reasons = words.why_lost(candidate, result.best, result.config.objective)
    return join(tag("span", reason, class_="reason") for reason in reasons)


def lineage(result: SearchResult) -> Markup:
    """How the winner came to be."""
    title, objective = "How it came to be", words.objective_words(result.config.objective)
    if not result.lineage:
        return section(
            title, "This architecture was settled by the proof, so it has no forefathers."
        )
    rows = [
        [
            shape(ancestor.architecture),
            f"{ancestor.generation:,}",
            exact(ancestor.total),
            "yes" if ancestor.excess == 0.0 else f"no, {share(ancestor.excess)} over",
        ]
        for ancestor in result.lineage
    ]
    sentence = (
        "The forefathers of the winner, oldest first, and last the winner as evolution met it: "
        f"{len(rows)} in all, each a small random change of the one above. What does not fit says "
        "by how much it is over the limits, added up."
    )
    listed = table(("shape", "generation", objective.name, "fits"), rows)
    if len(rows) > _LINES_BEFORE_FOLDING:
        listed = tag("details", tag("summary", f"show all {len(rows)}"), listed)
    return section(title, sentence, listed)


def runners_up(result: SearchResult) -> Markup:
    """The next best."""
    if not result.runners_up:
        return section("Runners-up", "Nothing else that fits differs from the winner.")
    objective = words.objective_words(result.config.objective)
    limited = [c for c in words.COSTS if words.limit_on(c.cost, result.budget) is not None]
    header = [
        "shape",
        objective.name,
        "against the winner",
        *(cost_heading(cost, result) for cost in limited),
    ]
    rows = [
        [
            shape(candidate.architecture),
            _objective_cell(candidate, result),
            _against_best(candidate, result),
            *(human(getattr(candidate.cost, cost.cost), cost.unit) for cost in limited),
        ]
        for candidate in result.runners_up
    ]
    sentence = (
        f"The next best survivors that keep the budget and differ in {objective.name}, with the "
        "costs that are limited."
    )
    return section("Runners-up", sentence, table(header, rows))


def _objective_cell(candidate: Candidate, result: SearchResult) -> str:
    value = words.objective_of(candidate, result.config.objective)
    return "not kept" if value is None else exact(value)


def _against_best(candidate: Candidate, result: SearchResult) -> str:
    name = result.config.objective
    value, best = words.objective_of(candidate, name), words.objective_of(result.best, name)
    return "not kept" if value is None or best is None else difference(value, best)
