"""The ONNX graph of a decoder: one graph for prefill and decode, batch 1, opset 13.

Inputs (q new tokens, p rows of past; T is float32, or float16 for half precision):

    input_ids [q] int32           the new tokens; or inputs_embeds [q, embed_dim] T, their rows
    position_ids [q] int32        where they stand
    logits_indices [n] int32      which of the q rows shall give logits: [q-1] for the last only
    past_mask [p] float32         added to the scores of the past: 0 visible, -10000 hidden
    past_key_values.{i}.key       [p, n_kv_head, head_dim] T, and .value, one pair an application

Outputs: logits [n, vocab_size] float32 and present.{i}.key/value [q, n_kv_head, head_dim] T: *new*
rows only. On request also best_logits [n, k] float32 and best_ids [n, k] int32, the k largest.

The one idea is the cache. Rows are sequence-major, so the past is a prefix of one buffer and the
new rows are the next rows of the same buffer: the runtime passes two pointers into it, and
nothing is copied, moved or concatenated. Scores of past and new are concatenated instead, which
is head_dim times smaller. The past is never empty (zero-length dimensions are badly treated by
TensorRT 8.2 and some ONNX Runtime kernels); past_mask hides the rows that hold no token.

The causal mask is arithmetic on positions, clip(i - j, -1, 0) * 10000: no booleans, finite in
FP16. Matrices stay (outputs, inputs) as stored: Gemm reads them transposed, so on ONNX Runtime the
tied embedding serves lookup and head from one copy. TensorRT may keep two copies of a table that is
both looked up and multiplied with; the graph for it therefore takes the rows themselves.
"""

import numpy as np

from merino_edge.export.graph import FLOAT, INT32, GraphBuilder
from merino_edge.export.layer import Place, Shared, add_layer, add_norm
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.manifest import HIDDEN_SCORE


def build_decoder(
    g: GraphBuilder, a: Architecture, context_len: int, looks_up: bool = True, n_best: int = 0
) -> None:
    """Write the whole decoder into a builder.

    Args:
        g: The builder, holding the weights of ``a``.
        a: The decoder.
        context_len: Positions that the rotary tables must cover.
        looks_up: Take ``input_ids``; or else ``inputs_embeds``.
        n_best: Give the so many largest logits and their ids as well.
    """
    x = _declare_inputs(g, a, looks_up)
    rope, biases = _rope_rows(g, a, context_len), _score_biases(g, a)
    past_len = g.op("Shape", "/mask/past_len", "past_mask")
    shared = Shared(g, a, rope, biases, past_len)
    x = _embed(g, a, x)
    for cache, (index, application, block) in enumerate(a.layers()):
        if application == 0 and index > 0 and index in a.joints():
            x = _joint(g, index, x)
        x = add_layer(shared, Place(block, index, application, cache), x)
    _head(g, a, x, n_best)


def _joint(g: GraphBuilder, index: int, x: str) -> str:
    """The bias-free projection where the width changes."""
    return g.product(f"/blocks.{index}/joint", x, f"blocks.{index}.joint.weight")


def _declare_inputs(g: GraphBuilder, a: Architecture, looks_up: bool) -> str:
    """Declare them; the rows of the new tokens [q, embed_dim] are returned."""
    if looks_up:
        g.input("input_ids", INT32, ["q_len"])
        x = g.rows("/embed", "embed.weight", "input_ids")
    else:
        x = g.input("inputs_embeds", g.compute, ["q_len", a.embed_dim])
    g.input("position_ids", INT32, ["q_len"])
    g.input("logits_indices", INT32, ["n_logits"])
    g.input("past_mask", FLOAT, ["past_len"])
    return x


def _embed(g: GraphBuilder, a: Architecture, x: str) -> str:
    if 0 in a.joints():
        x = _joint(g, 0, x)
    if a.position == "learned":
        rows = g.op("Gather", "/pos_embed", g.weight("pos_embed.weight"), "position_ids", axis=0)
        x = g.op("Add", "/embed/add", x, rows)
    return x


def _head(g: GraphBuilder, a: Architecture, x: str, n_best: int) -> None:
    """Logits of the asked rows only: the vocabulary is the largest matrix there is."""
    x = g.op("Gather", "/head/rows", x, "logits_indices", axis=0)
    if a.final_norm:
        x = add_norm(g, a, "/final_norm", "final_norm", x)
    if a.embed_dim != a.blocks[-1].d_model:
        x = g.product("/head/joint", x, "head_joint.weight")
    table = "embed.weight" if a.tie_embeddings else "head.weight"
    if g.compute == FLOAT:
        g.product("/head/logits", x, table, output="logits")
    else:
        narrow = g.product("/head/product", x, table)
        g.op("Cast", f"{g.wide_path('/head')}/logits", narrow, output="logits", to=FLOAT)
    g.output("logits", FLOAT, ["n_logits", a.vocab_size])
    if n_best:
        _best(g, n_best)


def _best(g: GraphBuilder, n_best: int) -> None:
    """The largest logits, so that a step may copy tens of bytes and not the vocabulary."""
    path, ids = g.wide_path("/best"), "/best/ids_int64"
    g.ops("TopK", f"{path}/top", ["logits", g.ints(n_best)], ["best_logits", ids], axis=1)
    g.op("Cast", "/best/ids", ids, output="best_ids", to=INT32)
    g.output("best_logits", FLOAT, ["n_logits", n_best])
    g.output("best_ids", INT32, ["n_logits", n_best])


def _rope_rows(g: GraphBuilder, a: Architecture, context_len: int) -> dict[int, tuple[str, str]]:
    """head_dim -> (cos, sin) of the new positions, each [q, 1, head_dim]; empty without rope.

    The sine of the first half is negated, so that rotating is x * cos + swap_halves(x) * sin.
    """
    if a.position != "rope":
        return {}
    rows = {}
    for head_dim, n_rotated in sorted({(b.head_dim, a.rotary_dim(b)) for b in a.blocks}):
        cos, sin = rope_tables(context_len, head_dim, n_rotated, a.rope_base)
        names = []
        for kind, table in (("cos", cos), ("sin", sin)):
            constant = g.constant(f"rope_{kind}_{head_dim}", g.as_compute(table))
            row = g.op("Gather", f"/rope/{kind}{head_dim}", constant, "position_ids", axis=0)
            names.append(g.op("Unsqueeze", f"/rope/{kind}{head_dim}/3d", row, g.ints(1)))
        rows[head_dim] = (names[0], names[1])
    return rows


def rope_tables(
    n_positions: int, head_dim: int, n_rotated: int, base: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines, and sines with the first half negated, each [n_positions, head_dim] float32.

    Channels behind the first ``n_rotated`` turn by no angle: a one and a zero.
    """
    frequencies = base ** -(np.arange(0, n_rotated, 2, dtype=np.float64) / n_rotated)
    angles = np.outer(np.arange(n_positions, dtype=np.float64), frequencies)
    rest = np.zeros((n_positions, head_dim - n_rotated))
    cos = np.concatenate((np.cos(angles), np.cos(angles), rest + 1), axis=1)
    sin = np.concatenate((-np.sin(angles), np.sin(angles), rest), axis=1)
    return cos.astype(np.float32), sin.astype(np.float32)


def _score_biases(g: GraphBuilder, a: Architecture) -> dict[int, str]:
    """Group size -> additive mask [group * q, p + q] of the scores, heads of a group stacked."""
    path = g.wide_path("/mask")
    positions = g.op("Cast", f"{path}/positions", "position_ids", to=FLOAT)
    column = g.op("Unsqueeze", f"{path}/column", positions, g.ints(1))
    row = g.op("Unsqueeze", f"{path}/row", positions, g.ints(0))
    distance = g.op("Sub", f"{path}/distance", column, row)
    future = g.op("Clip", f"{path}/future", distance, g.scalar(-1.0), g.scalar(0.0))
    new = g.op("Mul", f"{path}/new", future, g.scalar(-HIDDEN_SCORE))
    zeros = g.op("Mul", f"{path}/zeros", column, g.scalar(0.0))
    past = g.op("Add", f"{path}/past", zeros, "past_mask")
    bias = g.op("Concat", f"{path}/bias", past, new, axis=1)
    biases = {}
    for group in sorted({block.n_head // block.n_kv_head for block in a.blocks}):
        stacked = [bias] * group
        biases[group] = (
            bias if group == 1 else g.op("Concat", f"{path}/bias{group}", *stacked, axis=0)
        )
    return biases
