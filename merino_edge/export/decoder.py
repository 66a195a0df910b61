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
FP16. Norms are decomposed in the pattern that ONNX Runtime fuses and that TensorRT needs to see
to keep the variance in FP32. Matrices stay (outputs, inputs) as stored: Gemm reads them
transposed, so the tied embedding serves lookup and head from one copy.
"""

import math

import numpy as np

from merino_edge.export.graph import FLOAT, INT32, GraphBuilder
from merino_edge.formats.architecture import Architecture, BlockSpec

HIDDEN = -1e4  # exp() of it is 0 in FP32 and FP16, and it is finite in both
_END = 2**31 - 1


def build_decoder(g: GraphBuilder, a: Architecture, context_len: int) -> None:
    """Write the whole decoder into a builder.

    Args:
        g: The builder, holding the weights of ``a``.
        a: The decoder.
        context_len: Positions that the rotary tables must cover.
    """
    _declare_inputs(g)
    rope = _rope_rows(g, a, context_len)
    biases = _score_biases(g, a)
    x = _embed(g, a)
    layer = 0
    for index, block in enumerate(a.blocks):
        if index in a.joints() and index > 0:
            x = g.op(
                "Gemm",
                f"/blocks.{index}/joint",
                x,
                g.weight(f"blocks.{index}.joint.weight"),
                transB=1,
            )
        for application in range(block.depth):
            path = f"/blocks.{index}/{application}"
            x = _layer(g, a, block, index, application, layer, path, x, rope, biases)
            layer += 1
    _head(g, a, x)


def _declare_inputs(g: GraphBuilder) -> None:
    g.input("input_ids", INT32, ["q_len"])
    g.input("position_ids", INT32, ["q_len"])
    g.input("logits_indices", INT32, ["n_logits"])
    g.input("past_mask", FLOAT, ["past_len"])


def _embed(g: GraphBuilder, a: Architecture) -> str:
    x = g.op("Gather", "/embed", g.weight("embed.weight"), "input_ids", axis=0)
    if 0 in a.joints():
        x = g.op("Gemm", "/blocks.0/joint", x, g.weight("blocks.0.joint.weight"), transB=1)
    if a.position == "learned":
        rows = g.op("Gather", "/pos_embed", g.weight("pos_embed.weight"), "position_ids", axis=0)
        x = g.op("Add", "/embed/add", x, rows)
    return x


def _head(g: GraphBuilder, a: Architecture, x: str) -> None:
    """Logits of the asked rows only: the vocabulary is the largest matrix there is."""
    x = g.op("Gather", "/head/rows", x, "logits_indices", axis=0)
    x = _norm(g, a, "/final_norm", "final_norm", x)
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
    new = g.op("Mul", "/mask/new", future, g.scalar(-HIDDEN))
    zeros = g.op("Mul", "/mask/zeros", column, g.scalar(0.0))
    past = g.op("Add", "/mask/past", zeros, "past_mask")
    bias = g.op("Concat", "/mask/bias", past, new, axis=1)
    biases = {}
    for group in sorted({block.n_head // block.n_kv_head for block in a.blocks}):
        stacked = [bias] * group
        biases[group] = (
            bias if group == 1 else g.op("Concat", f"/mask/bias{group}", *stacked, axis=0)
        )
    g.op("Shape", "/mask/past_len", "past_mask")
    return biases


def _layer(
    g: GraphBuilder,
    a: Architecture,
    block: BlockSpec,
    index: int,
    application: int,
    layer: int,
    path: str,
    x: str,
    rope: dict[int, tuple[str, str]],
    biases: dict[int, str],
) -> str:
    weights, norms = f"blocks.{index}", f"blocks.{index}.norms.{application}"
    h = _norm(g, a, f"{path}/attn_norm", f"{norms}.attn", x)
    h = _linear(g, f"{path}/attn/qkv", f"{weights}.attn.qkv", h, a.attention_bias)
    mixed = _attention(g, block, f"{path}/attn", layer, h, rope, biases)
    h = _linear(g, f"{path}/attn/out", f"{weights}.attn.out", mixed, a.attention_bias)
    x = g.op("Add", f"{path}/attn/add", x, h)
    h = _norm(g, a, f"{path}/ffn_norm", f"{norms}.ffn", x)
    h = _linear(g, f"{path}/ffn/up", f"{weights}.ffn.up", h, a.ffn_bias)
    if a.gated_ffn:
        gate, up = g.split(f"{path}/ffn/gate_up", h, [block.d_ff, block.d_ff], axis=1)
        h = g.op("Mul", f"{path}/ffn/gated", _activation(g, a, f"{path}/ffn/act", gate), up)
    else:
        h = _activation(g, a, f"{path}/ffn/act", h)
    h = _linear(g, f"{path}/ffn/down", f"{weights}.ffn.down", h, a.ffn_bias)
    return g.op("Add", f"{path}/ffn/add", x, h)


def _attention(
    g: GraphBuilder,
    block: BlockSpec,
    path: str,
    layer: int,
    qkv: str,
    rope: dict[int, tuple[str, str]],
    biases: dict[int, str],
) -> str:
    """qkv [q, qkv_dim] -> mixed values [q, n_head * head_dim]."""
    query, key, value = _heads(g, block, path, layer, qkv, rope)
    past_key, past_value = (
        g.input(
            f"past_key_values.{layer}.{kind}", FLOAT, ["past_len", block.n_kv_head, block.head_dim]
        )
        for kind in ("key", "value")
    )
    scores = [
        g.op(
            "MatMul",
            f"{path}/scores_{name}",
            query,
            g.op("Transpose", f"{path}/{name}_t", rows, perm=[1, 2, 0]),
        )
        for name, rows in (("past", past_key), ("new", key))
    ]
    joined = g.op("Concat", f"{path}/scores", *scores, axis=2)
    masked = g.op("Add", f"{path}/masked", joined, biases[block.n_head // block.n_kv_head])
    weights = g.op("Softmax", f"{path}/softmax", masked, axis=2)
    zero, end, axis, p = g.ints(0), g.ints(_END), g.ints(2), "/mask/past_len"
    parts = [
        g.op("Slice", f"{path}/weights_past", weights, zero, p, axis),
        g.op("Slice", f"{path}/weights_new", weights, p, end, axis),
    ]
    mixed = [
        g.op(
            "MatMul",
            f"{path}/mixed_{name}",
            part,
            g.op("Transpose", f"{path}/{name}_v", rows, perm=[1, 0, 2]),
        )
        for name, part, rows in (("past", parts[0], past_value), ("new", parts[1], value))
    ]
    total = g.op("Add", f"{path}/mixed", *mixed)
    if block.n_head != block.n_kv_head:
        total = g.op("Reshape", f"{path}/ungroup", total, g.ints(block.n_head, -1, block.head_dim))
    total = g.op("Transpose", f"{path}/rows", total, perm=[1, 0, 2])
    return g.op("Reshape", f"{path}/flat", total, g.ints(-1, block.n_head * block.head_dim))


def _heads(
    g: GraphBuilder,
    block: BlockSpec,
    path: str,
    layer: int,
    qkv: str,
    rope: dict[int, tuple[str, str]],
) -> tuple[str, str, str]:
    """Scaled queries [n_kv_head, group * q, head_dim], and the new rows of keys and values."""
    n_head, n_kv, head_dim = block.n_head, block.n_kv_head, block.head_dim
    heads = g.op("Reshape", f"{path}/heads", qkv, g.ints(-1, n_head + 2 * n_kv, head_dim))
    key, value = (f"present.{layer}.{kind}" for kind in ("key", "value"))
    if rope:
        qk, _ = g.split(f"{path}/qk_v", heads, [n_head + n_kv, n_kv], 1, [f"{path}/qk", value])
        qk = _rotate(g, f"{path}/rope", qk, head_dim, rope[head_dim])
        query, _ = g.split(f"{path}/q_k", qk, [n_head, n_kv], 1, [f"{path}/q", key])
    else:
        sizes, names = [n_head, n_kv, n_kv], [f"{path}/q", key, value]
        query = g.split(f"{path}/q_k_v", heads, sizes, 1, names)[0]
    for name in (key, value):
        g.output(name, FLOAT, ["q_len", n_kv, head_dim])
    query = g.op("Mul", f"{path}/scaled", query, g.scalar(1.0 / math.sqrt(head_dim)))
    query = g.op("Transpose", f"{path}/query", query, perm=[1, 0, 2])
    if n_head != n_kv:
        query = g.op("Reshape", f"{path}/group", query, g.ints(n_kv, -1, head_dim))
    return query, key, value


def _rotate(g: GraphBuilder, path: str, x: str, head_dim: int, rope: tuple[str, str]) -> str:
    first, second = g.split(f"{path}/halves", x, [head_dim // 2] * 2, axis=2)
    swapped = g.op("Concat", f"{path}/swapped", second, first, axis=2)
    by_cos = g.op("Mul", f"{path}/cos", x, rope[0])
    by_sin = g.op("Mul", f"{path}/sin", swapped, rope[1])
    return g.op("Add", f"{path}/rotated", by_cos, by_sin)


def _linear(g: GraphBuilder, path: str, name: str, x: str, bias: bool) -> str:
    inputs = [x, g.weight(f"{name}.weight")] + ([g.weight(f"{name}.bias")] if bias else [])
    return g.op("Gemm", path, *inputs, transB=1)


def _norm(g: GraphBuilder, a: Architecture, path: str, name: str, x: str) -> str:
    if a.norm == "layernorm":
        mean = g.op("ReduceMean", f"{path}/mean", x, axes=[-1])
        x = g.op("Sub", f"{path}/centred", x, mean)
    square = g.op("Pow", f"{path}/square", x, g.scalar(2.0))
    variance = g.op("ReduceMean", f"{path}/variance", square, axes=[-1])
    safe = g.op("Add", f"{path}/eps", variance, g.scalar(a.norm_eps))
    deviation = g.op("Sqrt", f"{path}/deviation", safe)
    unit = g.op("Div", f"{path}/unit", x, deviation)
    scaled = g.op("Mul", f"{path}/scaled", unit, g.weight(f"{name}.weight"))
    if a.norm != "layernorm":
        return scaled
    return g.op("Add", f"{path}/shifted", scaled, g.weight(f"{name}.bias"))


def _activation(g: GraphBuilder, a: Architecture, path: str, x: str) -> str:
    if a.activation == "relu":
        return g.op("Relu", path, x)
    if a.activation == "silu":
        return g.op("Mul", path, x, g.op("Sigmoid", f"{path}/sigmoid", x))
    if a.activation == "gelu":
        scaled = g.op("Div", f"{path}/scaled", x, g.scalar(math.sqrt(2.0)))
        inner = g.op("Erf", f"{path}/erf", scaled)
    else:
        inner = g.op("Tanh", f"{path}/tanh", _gelu_tanh_argument(g, path, x))
    shifted = g.op("Add", f"{path}/shifted", inner, g.scalar(1.0))
    product = g.op("Mul", f"{path}/product", x, shifted)
    return g.op("Mul", path, product, g.scalar(0.5))


def _gelu_tanh_argument(g: GraphBuilder, path: str, x: str) -> str:
    cube = g.op("Pow", f"{path}/cube", x, g.scalar(3.0))
    small = g.op("Mul", f"{path}/small", cube, g.scalar(0.044715))
    inner = g.op("Add", f"{path}/inner", x, small)
    return g.op("Mul", f"{path}/argument", inner, g.scalar(math.sqrt(2.0 / math.pi)))
