"""The result of a search on one screen: the blocks drawn, each cost against its limit.

It only words what a SearchResult holds; a latency is always said to be a prediction.
"""

from typing import Any, Dict, List, Optional, Sequence

from merino_edge.cli.output import human_bytes, human_count, table

_BAR = 24  # characters of the widest block


def search_card(result: Any) -> str:
    """One screen of text for a ``search.result.SearchResult``."""
    best = result.best
    lines = [
        "architecture {}   space {}, target {}, seed {}".format(
            best.architecture.arch_id, result.space, result.target, _seeds(result.config)
        ),
        "",
    ]
    lines += _drawing(best.architecture)
    lines += [
        "",
        _costs(result) + _token(result.at),
        entropy_words(best.entropy, result.config.entropy),
    ]
    lines += _proof(result) + _vocabularies(result) + _front(result.front)
    lines += _runners_up(result.runners_up)
    return "\n".join(lines)


def _drawing(a: Any) -> List[str]:
    """A row for each block: a bar as long as it is wide, its shape, how often it runs."""
    widest = max(block.d_model for block in a.blocks)
    ends = "  embedding {} x {}, up to {} tokens"
    lines = [ends.format(a.vocab_size, a.embed_dim, a.max_seq_len)]
    for index, block in enumerate(a.blocks):
        bar = "#" * max(1, round(_BAR * block.d_model / widest))
        lines.append(
            "  {:<{}}  block {}: width {}, {} heads, feed-forward {}, applied {} time{}".format(
                bar,
                _BAR,
                index + 1,
                block.d_model,
                block.n_head,
                block.d_ff,
                block.depth,
                "" if block.depth == 1 else "s",
            )
        )
    return lines


def _seeds(config: Any) -> str:
    last = config.seed + config.n_seeds - 1
    return str(config.seed) if config.n_seeds == 1 else "{} to {}".format(config.seed, last)


def _costs(result: Any) -> str:
    cost, budget, at = result.best.cost, result.budget, result.at
    rows = _size_rows(cost, budget, at) + _time_rows(cost, budget)
    return table(("at context {}".format(at.context_len), "cost", "limit", "used"), rows)


def _size_rows(cost: Any, budget: Any, at: Any) -> List[Sequence[str]]:
    """What follows from the shapes alone."""
    prompt, token = "FLOPs of a {}-token prompt".format(at.prompt_len), "FLOPs per generated token"
    flops, most_flops = cost.decode_flops_per_token, budget.max_decode_flops_per_token
    memory = "memory (weights, cache, activations)"
    return [
        _row("parameters (stored)", cost.n_params, budget.max_params, human_count),
        _row(prompt, cost.prefill_flops, budget.max_flops, human_count),
        _row(token, flops, most_flops, human_count),
        _row(memory, cost.peak_memory_bytes, budget.max_memory_bytes, human_bytes),
    ]


def _time_rows(cost: Any, budget: Any) -> List[Sequence[str]]:
    """What is predicted, and on which basis."""
    basis = _predicted(cost.latency_basis)
    token, prompt = "latency per token" + basis, "latency of the prompt" + basis
    possible = cost.energy_mj_per_token is not None
    energy = "energy per token" + _predicted("power limit x latency" if possible else "")
    show = "{:.1f} mJ".format
    return [
        _time_row(token, cost.latency_ms, cost.latency_high_ms, budget.max_latency_ms),
        _time_row(prompt, cost.prefill_ms, cost.prefill_high_ms, budget.max_prefill_ms),
        _row(energy, cost.energy_mj_per_token, budget.max_energy_mj, show),
    ]


def _predicted(basis: Optional[str]) -> str:
    return " (predicted: {})".format(basis or "not possible, facts are missing")


def _token(at: Any) -> str:
    """What a token means where vocabularies were compared."""
    if at.tokens_per_reference == 1.0:
        return ""
    line = "a token above is the text of one reference token: {:.3f} tokens of this vocabulary\n"
    return line.format(at.tokens_per_reference)


def _ms(value: float) -> str:
    return "{:.2f} ms".format(value)


def _row(name: str, value: Optional[float], limit: Optional[float], show: Any) -> Sequence[str]:
    used = "" if limit is None or value is None else "{:.1f} %".format(100.0 * value / limit)
    shown = ["-" if number is None else show(number) for number in (value, limit)]
    return [name] + shown + [used]


def _time_row(
    name: str, value: Optional[float], high: Optional[float], limit: Optional[float]
) -> Sequence[str]:
    """A time; where an interval is stated, its upper end is what the limit binds."""
    if value is None or high is None or high == value:
        return _row(name, value, limit, _ms)
    row = list(_row(name, high, limit, _ms))
    row[1] = "{:.3f} ms, at most {:.3f}".format(value, high)
    return row


def entropy_words(score: Any, config: Any) -> str:
    """Two lines for an ``EntropyScore`` and the ``EntropyConfig`` behind it."""
    return (
        "entropy {:.0f} nats x effectiveness {:.3f} = {:.0f} nats\n"
        "depth / width {:.4f} (gamma; effectiveness '{}' with gamma0 {:g})".format(
            score.raw, score.effectiveness, score.total, score.gamma, config.form, config.gamma0
        )
    )


def _proof(result: Any) -> List[str]:
    """How far the best is from the best there is, in words."""
    proof = result.certificate
    if proof is None:
        return ["how far this is from the best of the space was not proven"]
    if proof.complete and proof.gap == 0.0:
        return ["proven: no member of the space that keeps the budget has more entropy"]
    known = "the best of the space" if proof.complete else "what the best can have"
    hint = "--method exact finds it" if proof.complete else "--method exact narrows this down"
    line = "proven: at most {:.3g} % below {} ({:.0f} nats); {}"
    return [line.format(100.0 * proof.gap, known, proof.upper_bound, hint)]


def _vocabularies(result: Any) -> List[str]:
    """What each vocabulary could have had, where there was a choice."""
    best: Dict[int, float] = {}
    for run in result.seeds:
        best[run.vocab_size] = max(best.get(run.vocab_size, run.best_total), run.best_total)
    if len(best) < 2:
        return []
    line = "vocabulary {}: {:.0f}" + (" nats" if result.config.objective == "entropy" else "")
    return ["best for each vocabulary:"] + ["  " + line.format(*pair) for pair in best.items()]


def _front(front: Any) -> List[str]:
    if front is None:
        return []
    lines = ["most entropy for each {}:".format(front.axis)]
    for point in front.points:
        cost = getattr(point.candidate.cost, front.axis)
        shown = human_count(cost) if cost >= 1e3 else "{:.3g}".format(cost)
        lines.append("  {:>8}  {:.0f} nats".format(shown, point.candidate.entropy.total))
    return lines


def _runners_up(candidates: Sequence[Any]) -> List[str]:
    from merino_edge.formats.architecture import describe

    lines = ["runners-up:"] if candidates else []
    for candidate in candidates:
        lines.append(
            "  {:.0f} nats  {}".format(candidate.entropy.total, describe(candidate.architecture))
        )
    return lines
