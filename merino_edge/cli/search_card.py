"""The result of a search on one screen: the blocks drawn, each cost against its limit.

It only words what a SearchResult holds; a latency is always said to be a prediction.
"""

from typing import Any, List, Optional, Sequence

from merino_edge.cli.output import human_bytes, human_count, table

_BAR = 24  # characters of the widest block


def search_card(result: Any) -> str:
    """One screen of text for a ``search.result.SearchResult``."""
    best = result.best
    lines = [
        "architecture {}   space {}, target {}, seed {}".format(
            best.architecture.arch_id, result.space, result.target, result.config.seed
        ),
        "",
    ]
    lines += _drawing(best.architecture)
    lines += ["", _costs(result), _entropy(best.entropy, result.config.entropy)]
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


def _costs(result: Any) -> str:
    cost, budget, context = result.best.cost, result.budget, result.at.context_len
    known = "predicted ({})".format(cost.latency_basis)
    basis = "latency per token, " + (known if cost.latency_basis else "unknown bandwidth")
    rows = [
        _row("parameters (stored)", cost.n_params, budget.max_params, human_count),
        _row(
            "FLOPs of a {}-token prompt".format(result.at.prompt_len),
            cost.prefill_flops,
            budget.max_flops,
            human_count,
        ),
        _row(
            "FLOPs per generated token",
            cost.decode_flops_per_token,
            budget.max_decode_flops_per_token,
            human_count,
        ),
        _row(
            "memory (weights, cache)", cost.peak_memory_bytes, budget.max_memory_bytes, human_bytes
        ),
        _row(basis, cost.latency_ms, budget.max_latency_ms, "{:.2f} ms".format),
    ]
    return table(("at context {}".format(context), "cost", "limit", "used"), rows)


def _row(name: str, value: Optional[float], limit: Optional[float], show: Any) -> Sequence[str]:
    used = "" if limit is None or value is None else "{:.1f} %".format(100.0 * value / limit)
    shown = ["-" if number is None else show(number) for number in (value, limit)]
    return [name] + shown + [used]


def _entropy(score: Any, config: Any) -> str:
    return (
        "entropy {:.0f} nats x effectiveness {:.3f} = {:.0f} nats\n"
        "depth / width {:.4f} (gamma; effectiveness '{}' with gamma0 {:g})".format(
            score.raw, score.effectiveness, score.total, score.gamma, config.form, config.gamma0
        )
    )


def _runners_up(candidates: Sequence[Any]) -> List[str]:
    from merino_edge.formats.architecture import describe

    lines = ["runners-up:"] if candidates else []
    for candidate in candidates:
        lines.append(
            "  {:.0f} nats  {}".format(candidate.entropy.total, describe(candidate.architecture))
        )
    return lines
