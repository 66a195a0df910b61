"""The ONNX graph of a decoder: one graph for prefill and decode, batch 1, opset 13.

Inputs (q new tokens, p rows of past):

    input_ids [q] int32           the new tokens
    position_ids [q] int32        where they stand
    logits_indices [n] int32      which of the q rows shall give logits: [q-1] for the last only
    past_mask [p] float32         added to the scores of the past: 0 visible, -10000 hidden
    past_key_values.{i}.key       [p, n_kv_head, head_dim], and .value, one pair a layer application

Outputs: logits [n, vocab_size] and present.{i}.key/value [q, n_kv_head, head_dim]: *new* rows only.

The one idea is the cache. Rows are sequence-major, so the past is a prefix of one buffer and the
new rows are the next rows of the same buffer: the runtime passes two pointers into it, and
nothing is copied, moved or concatenated. Scores of past and new are concatenated instead, which
is head_dim times smaller. Row 0 of a cache is a hidden sentinel, so p is never 0 (zero-length
dimensions are badly treated by TensorRT 8.2 and some ONNX Runtime kernels).

The causal mask is arithmetic on positions, clip(i - j, -1, 0) * 10000: no booleans, finite in
FP16. Matrices stay (outputs, inputs) as stored: Gemm reads them
transposed, so the tied embedding serves lookup and head from one copy.
"""

import numpy as np

from merino_edge.export.graph import FLOAT, INT32, GraphBuilder
from merino_edge.export.layer import Place, Shared, add_layer, add_norm
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.manifest import HIDDEN_SCORE


def build_decoder(g: GraphBuilder, a: Architecture, context_len: int) -> None:
    """Write the whole decoder into a builder.

    Args:
        g: The builder, holding the weights of ``a``.
        a: The decoder.
        context_len: Positions that the rotary tables must cover.
    """
    _declare_inputs(g)
    rope, biases = _rope_rows(g, a, context_len), _score_biases(g, a)
    past_len = g.op("Shape", "/mask/past_len", "past_mask")
    shared = Shared(g, a, rope, biases, past_len)
    x = _embed(g, a)
    for cache, (index, application, block) in enumerate(a.layers()):
        if application == 0 and index > 0 and index in a.joints():
            x = _joint(g, index, x)
        x = add_layer(shared, Place(block, index, application, cache), x)
    _head(g, a, x)


def _joint(g: GraphBuilder, index: int, x: str) -> str:
    """The bias-free projection where the width changes."""
    weight = g.weight(f"blocks.{index}.joint.weight")
    return g.op("Gemm", f"/blocks.{index}/joint", x, weight, transB=1)


def _declare_inputs(g: GraphBuilder) -> None:
    g.input("input_ids", INT32, ["q_len"])
    g.input("position_ids", INT32, ["q_len"])
    g.input("logits_indices", INT32, ["n_logits"])
    g.input("past_mask", FLOAT, ["past_len"])


def _embed(g: GraphBuilder, a: Architecture) -> str:
    x = g.op("Gather", "/embed", g.weight("embed.weight"), "input_ids", axis=0)
    if 0 in a.joints():
        x = _joint(g, 0, x)
    if a.position == "learned":
        rows = g.op("Gather", "/pos_embed", g.weight("pos_embed.weight"), "position_ids", axis=0)
        x = g.op("Add", "/embed/add", x, rows)
    return x


def _head(g: GraphBuilder, a: Architecture, x: str) -> None:
    """Logits of the asked rows only: the vocabulary is the largest matrix there is."""
    x = g.op("Gather", "/head/rows", x, "logits_indices", axis=0)
    x = add_norm(g, a, "/final_norm", "final_norm", x)
    if a.embed_dim != a.blocks[-1].d_model:
        x = g.op("Gemm", "/head/joint", x, g.weight("head_joint.weight"), transB=1)
    table = "embed.weight" if a.tie_embeddings else "head.weight"
    g.op("Gemm", "/head/logits", x, g.weight(table), transB=1, output="logits")
    g.output("logits", FLOAT, ["n_logits", a.vocab_size])


def _rope_rows(g: GraphBuilder, a: Architecture, context_len: int) -> dict[int, tuple[str, str]]:
    """head_dim -> (cos, sin) of the new positions, each [q, 1, head_dim]; empty without rope.

    The sine of the first half is negated, so that rotating is x * cos + swap_halves(x) * sin.
    """
    if a.position != "rope":
        return {}
    rows = {}
    for head_dim in sorted({block.head_dim for block in a.blocks}):
        cos, sin = rope_tables(context_len, head_dim, a.rope_base)
        names = []
        for kind, table in (("cos", cos), ("sin", sin)):
            constant = g.constant(f"rope_{kind}_{head_dim}", table)
            row = g.op("Gather", f"/rope/{kind}{head_dim}", constant, "position_ids", axis=0)
            names.append(g.op("Unsqueeze", f"/rope/{kind}{head_dim}/3d", row, g.ints(1)))
        rows[head_dim] = (names[0], names[1])
    return rows


def rope_tables(n_positions: int, head_dim: int, base: float) -> tuple[np.ndarray, np.ndarray]:
    """Cosines, and sines with the first half negated, each [n_positions, head_dim] float32."""
    frequencies = base ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    angles = np.outer(np.arange(n_positions, dtype=np.float64), frequencies)
    cos = np.concatenate((np.cos(angles),) * 2, axis=1)
    sin = np.concatenate((-np.sin(angles), np.sin(angles)), axis=1)
    return cos.astype(np.float32), sin.astype(np.float32)


def _score_biases(g: GraphBuilder, a: Architecture) -> dict[int, str]:
    """Group size -> additive mask [group * q, p + q] of the scores, heads of a group stacked."""
    positions = g.op("Cast", "/mask/positions", "position_ids", to=FLOAT)
    column = g.op("Unsqueeze", "/mask/column", positions, g.ints(1))
    row = g.op("Unsqueeze", "/mask/row", positions, g.ints(0))
    distance = g.op("Sub", "/mask/distance", column, row)
    future = g.op("Clip", "/mask/future", distance, g.scalar(-1.0), g.scalar(0.0))
    new = g.op("Mul", "/mask/new", future, g.scalar(-HIDDEN_SCORE))
    zeros = g.op("Mul", "/mask/zeros", column, g.scalar(0.0))
    past = g.op("Add", "/mask/past", zeros, "past_mask")
    bias = g.op("Concat", "/mask/bias", past, new, axis=1)
    biases = {}
    for group in sorted({block.n_head // block.n_kv_head for block in a.blocks}):
        stacked = [bias] * group
        biases[group] = (
            bias if group == 1 else g.op("Concat", f"/mask/bias{group}", *stacked, axis=0)
        )
    return biases
