"""What follows from an architecture alone, on one screen: size, work, memory, entropy.

The one idea: the facts are gathered once, as the JSON that scripts get, and the screen is that
JSON in words. Gathering needs ``core`` and so a workstation; the wording needs nothing.
"""

from itertools import groupby
from typing import Any, Dict, List

from merino_edge.cli.output import human_bytes, human_count, table
from merino_edge.cli.search_card import entropy_words

CACHE_DTYPE = "float32"  # of the bundles that this version makes


def architecture_facts(a: Any, config: Any) -> Dict[str, Any]:
    """Counts and entropy of an ``Architecture`` under an ``EntropyConfig``, as plain JSON values.

    FLOPs of the prompt are those that a budget limits: 1024 tokens, body only. The cache and the
    generated token are quoted at the longest sequence.
    """
    from merino_edge.core import counting
    from merino_edge.core.entropy import network_entropy
    from merino_edge.formats.jsonio import encode

    cache = counting.kv_cache_spec(a, a.max_seq_len, CACHE_DTYPE)
    return {
        "architecture": encode(a),
        "arch_id": a.arch_id,
        "n_layers": a.n_layers,
        "n_params": counting.n_params(a),
        "n_params_executed": counting.n_params_executed(a),
        "block_params": [counting.block_matrix_params(a, i) for i in range(len(a.blocks))],
        "prompt_len": counting.PAPER_SEQ_LEN,
        "prefill_flops": counting.prefill_flops(a),
        "decode_flops_per_token": counting.decode_flops_per_token(a, a.max_seq_len),
        "kv_bytes_per_token": cache.bytes_per_token,
        "kv_total_bytes": cache.total_bytes,
        "entropy": encode(network_entropy(a, config)),
        "entropy_config": encode(config),
    }


def architecture_card(title: str, a: Any, config: Any, facts: Dict[str, Any]) -> str:
    """One screen of text for the facts of an architecture."""
    from merino_edge.core.entropy import EntropyScore

    lines = [
        "{}  (architecture {})".format(title, facts["arch_id"]),
        "shape         {} layers, {}".format(a.n_layers, _kind(a)),
        "embedding     {} x {}{}, up to {} tokens".format(
            a.vocab_size, a.embed_dim, "" if a.tie_embeddings else " and a head", a.max_seq_len
        ),
        "parameters    {} stored, {} executed".format(
            human_count(facts["n_params"]), human_count(facts["n_params_executed"])
        ),
        "FLOPs         {} of a {}-token prompt (body), {} per token at context {}".format(
            human_count(facts["prefill_flops"]),
            facts["prompt_len"],
            human_count(facts["decode_flops_per_token"]),
            a.max_seq_len,
        ),
        "KV cache      {} a token, {} for {} tokens, in {}".format(
            human_bytes(facts["kv_bytes_per_token"]),
            human_bytes(facts["kv_total_bytes"]),
            a.max_seq_len,
            CACHE_DTYPE,
        ),
        "",
        entropy_words(EntropyScore(**facts["entropy"]), config),
        "",
    ]
    return "\n".join(lines) + "\n" + _blocks(a, facts)


def _kind(a: Any) -> str:
    """What a layer is; what most decoders have goes without saying."""
    words = [a.norm, a.position, "gated " + a.activation if a.gated_ffn else a.activation]
    if a.norm_place == "post":
        words[0] += " after each sublayer"
    if not a.final_norm:
        words[0] += ", none before the head"
    if a.rope_fraction != 1.0:
        words[1] += " on {:.0%} of a head".format(a.rope_fraction)
    if a.parallel_residual:
        words.append("attention and feed-forward side by side")
    return ", ".join(words)


def _blocks(a: Any, facts: Dict[str, Any]) -> str:
    """A row for each block; neighbours of one shape, which imported models have, share a row."""
    header = ("block", "width", "heads", "feed-forward", "applied", "stored", "nats", "share")
    return table(header, [_row(a, facts, list(run)) for run in _runs(a)])


def _runs(a: Any) -> Any:
    """Indices of the blocks, grouped into neighbours of one shape."""
    for _, run in groupby(range(len(a.blocks)), key=lambda index: a.blocks[index]):
        yield run


def _row(a: Any, facts: Dict[str, Any], run: List[int]) -> List[str]:
    block, score = a.blocks[run[0]], facts["entropy"]
    nats = sum(score["per_block"][index] for index in run)
    name = str(run[0] + 1) if len(run) == 1 else "{} to {}".format(run[0] + 1, run[-1] + 1)
    heads = str(block.n_head)
    if block.n_kv_head != block.n_head:
        heads += " ({} kv)".format(block.n_kv_head)
    return [
        name,
        str(block.d_model),
        heads,
        str(block.d_ff),
        "{} x".format(block.depth),
        human_count(sum(facts["block_params"][index] for index in run)),
        "{:,.0f}".format(nats),
        "{:.1f} %".format(100.0 * nats / score["raw"] if score["raw"] else 0.0),
    ]
