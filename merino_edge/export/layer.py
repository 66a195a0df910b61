"""One layer of the graph: attention over past and new rows, feed-forward, a norm for each.

What differs between layers is a ``Place``; what all share (weights, masks, rotary rows) is a
``Shared``. See ``decoder.py`` for what goes in and comes out. Norms are decomposed in the pattern
that ONNX Runtime fuses. In a graph of half precision, norms, softmax and GELU compute in float32:
squares overflow beyond 256, and a mask of -10000 eats the precision of the scores it is added to.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from merino_edge.export.graph import GraphBuilder
from merino_edge.formats.architecture import Architecture, BlockSpec

_END = 2**31 - 1


@dataclass(frozen=True)
class Shared:
    """What every layer reads.

    Attributes:
        g: The builder.
        a: The decoder.
        rope: head_dim -> (cos, sin), each [q, 1, head_dim]; empty without rope.
        biases: Heads that share a key -> additive mask [group * q, p + q].
        past_len: The number of past rows, as a vector of one.
    """

    g: GraphBuilder
    a: Architecture
    rope: dict[int, tuple[str, str]]
    biases: dict[int, str]
    past_len: str


class Place(NamedTuple):
    """Where a layer stands: the block, its application within the block, and the cache entry."""

    block: BlockSpec
    block_index: int
    application: int
    cache: int

    @property
    def path(self) -> str:
        """Beginning of the names of its nodes."""
        return f"/blocks.{self.block_index}/{self.application}"

    @property
    def group(self) -> int:
        """Query heads that share a key."""
        return self.block.n_head // self.block.n_kv_head


class Heads(NamedTuple):
    """Queries [n_kv_head, group * q, head_dim], scaled; new rows [q, n_kv_head, head_dim]."""

    query: str
    key: str
    value: str


def add_layer(s: Shared, place: Place, x: str) -> str:
    """x [q, d_model] -> the same, after attention and feed-forward."""
    if s.a.norm_place == "post":
        x = _norm(s, place, "attn", _add(s, place, "attn", x, _attend(s, place, x)))
        return _norm(s, place, "ffn", _add(s, place, "ffn", x, _feed_forward(s, place, x)))
    attended = _add(s, place, "attn", x, _attend(s, place, _norm(s, place, "attn", x)))
    read = x if s.a.parallel_residual else attended
    fed = _feed_forward(s, place, _norm(s, place, "ffn", read))
    return _add(s, place, "ffn", attended, fed)


def _norm(s: Shared, place: Place, kind: str, x: str) -> str:
    name = f"blocks.{place.block_index}.norms.{place.application}.{kind}"
    return add_norm(s.g, s.a, f"{place.path}/{kind}_norm", name, x)


def _add(s: Shared, place: Place, kind: str, x: str, h: str) -> str:
    return s.g.op("Add", f"{place.path}/{kind}/add", x, h)


def _attend(s: Shared, place: Place, h: str) -> str:
    path, weights = f"{place.path}/attn", f"blocks.{place.block_index}.attn"
    h = _linear(s.g, f"{path}/qkv", f"{weights}.qkv", h, s.a.attention_bias)
    h = _attention(s, place, h)
    return _linear(s.g, f"{path}/out", f"{weights}.out", h, s.a.attention_bias)


def _feed_forward(s: Shared, place: Place, h: str) -> str:
    g, path, weights, d_ff = (
        s.g,
        f"{place.path}/ffn",
        f"blocks.{place.block_index}.ffn",
        place.block.d_ff,
    )
    h = _linear(g, f"{path}/up", f"{weights}.up", h, s.a.ffn_bias)
    if s.a.gated_ffn:
        gate, up = g.split(f"{path}/gate_up", h, [d_ff, d_ff], axis=1)
        h = g.op("Mul", f"{path}/gated", _activation(g, s.a, f"{path}/act", gate), up)
    else:
        h = _activation(g, s.a, f"{path}/act", h)
    return _linear(g, f"{path}/down", f"{weights}.down", h, s.a.ffn_bias)


def _attention(s: Shared, place: Place, qkv: str) -> str:
    """qkv [q, qkv_dim] -> mixed values [q, n_head * head_dim]."""
    g, block, path = s.g, place.block, f"{place.path}/attn"
    heads = _heads(s, place, qkv)
    row_shape: list[int | str] = ["past_len", block.n_kv_head, block.head_dim]
    past_key, past_value = (
        g.input(f"past_key_values.{place.cache}.{kind}", g.compute, row_shape)
        for kind in ("key", "value")
    )
    weights = _weights(s, place, heads, past_key)
    mixed = _mixed(s, place, weights, (past_value, heads.value))
    if place.group > 1:
        mixed = g.op("Reshape", f"{path}/ungroup", mixed, g.ints(block.n_head, -1, block.head_dim))
    mixed = g.op("Transpose", f"{path}/rows", mixed, perm=[1, 0, 2])
    return g.op("Reshape", f"{path}/flat", mixed, g.ints(-1, block.n_head * block.head_dim))


def _weights(s: Shared, place: Place, heads: Heads, past_key: str) -> str:
    """Softmax over past and new: [n_kv_head, group * q, p + q]."""
    g, path = s.g, f"{place.path}/attn"
    scores = []
    for name, rows in (("past", past_key), ("new", heads.key)):
        columns = g.op("Transpose", f"{path}/{name}_t", rows, perm=[1, 2, 0])
        scores.append(g.op("MatMul", f"{path}/scores_{name}", heads.query, columns))
    joined = g.op("Concat", f"{path}/scores", *scores, axis=2)
    wide = g.wide_path(path)
    joined = g.wide(path, joined)
    masked = g.op("Add", f"{wide}/masked", joined, s.biases[place.group])
    return g.narrow(path, g.op("Softmax", f"{wide}/softmax", masked, axis=2))


def _mixed(s: Shared, place: Place, weights: str, values: tuple[str, str]) -> str:
    """Values of past and new, each weighted by its part of the softmax, added."""
    g, path, axis = s.g, f"{place.path}/attn", s.g.ints(2)
    bounds = ((g.ints(0), s.past_len), (s.past_len, g.ints(_END)))
    parts = [
        g.op("Slice", f"{path}/weights_{name}", weights, start, end, axis)
        for name, (start, end) in zip(("past", "new"), bounds, strict=True)
    ]
    mixed = []
    for name, part, rows in zip(("past", "new"), parts, values, strict=True):
        value = g.op("Transpose", f"{path}/{name}_v", rows, perm=[1, 0, 2])
        mixed.append(g.op("MatMul", f"{path}/mixed_{name}", part, value))
    return g.op("Add", f"{path}/mixed", *mixed)


def _heads(s: Shared, place: Place, qkv: str) -> Heads:
    """Split, rotate and scale; the new rows of the cache are outputs of the graph."""
    g, path = s.g, f"{place.path}/attn"
    n_head, n_kv, head_dim = place.block.n_head, place.block.n_kv_head, place.block.head_dim
    heads = g.op("Reshape", f"{path}/heads", qkv, g.ints(-1, n_head + 2 * n_kv, head_dim))
    key, value = (f"present.{place.cache}.{kind}" for kind in ("key", "value"))
    if s.rope:
        qk, _ = g.split(f"{path}/qk_v", heads, [n_head + n_kv, n_kv], 1, [f"{path}/qk", value])
        rope, n_rotated = s.rope[head_dim], s.a.rotary_dim(place.block)
        qk = _rotate(g, f"{path}/rope", qk, head_dim, n_rotated, rope)
        query, _ = g.split(f"{path}/q_k", qk, [n_head, n_kv], 1, [f"{path}/q", key])
    else:
        sizes, names = [n_head, n_kv, n_kv], [f"{path}/q", key, value]
        query = g.split(f"{path}/q_k_v", heads, sizes, 1, names)[0]
    for name in (key, value):
        g.output(name, g.compute, ["q_len", n_kv, head_dim])
    query = g.op("Mul", f"{path}/scaled", query, g.scalar(1.0 / math.sqrt(head_dim), g.compute))
    query = g.op("Transpose", f"{path}/query", query, perm=[1, 0, 2])
    if place.group > 1:
        query = g.op("Reshape", f"{path}/group", query, g.ints(n_kv, -1, head_dim))
    return Heads(query, key, value)


def _rotate(
    g: GraphBuilder, path: str, x: str, head_dim: int, n_rotated: int, rope: tuple[str, str]
) -> str:
    """Swap the halves of the rotated part; the rest stays where it is, times 1, plus itself x 0."""
    sizes = [n_rotated // 2] * 2 + [head_dim - n_rotated] * (n_rotated < head_dim)
    first, second, *rest = g.split(f"{path}/halves", x, sizes, axis=2)
    swapped = g.op("Concat", f"{path}/swapped", second, first, *rest, axis=2)
    by_cos = g.op("Mul", f"{path}/cos", x, rope[0])
    by_sin = g.op("Mul", f"{path}/sin", swapped, rope[1])
    return g.op("Add", f"{path}/rotated", by_cos, by_sin)


def _linear(g: GraphBuilder, path: str, name: str, x: str, bias: bool) -> str:
    return g.product(path, x, f"{name}.weight", f"{name}.bias" if bias else "")


def add_norm(g: GraphBuilder, a: Architecture, path: str, name: str, x: str) -> str:
    """LayerNorm or RMSNorm over the last axis, in float32."""
    x, outer, path = g.wide(path, x), path, g.wide_path(path)
    if a.norm == "layernorm":
        mean = g.op("ReduceMean", f"{path}/mean", x, axes=[-1])
        x = g.op("Sub", f"{path}/centred", x, mean)
    square = g.op("Pow", f"{path}/square", x, g.scalar(2.0))
    variance = g.op("ReduceMean", f"{path}/variance", square, axes=[-1])
    safe = g.op("Add", f"{path}/eps", variance, g.scalar(a.norm_eps))
    deviation = g.op("Sqrt", f"{path}/deviation", safe)
    unit = g.op("Div", f"{path}/unit", x, deviation)
    scaled = g.op("Mul", f"{path}/scaled", unit, g.weight(f"{name}.weight"))
    if a.norm == "layernorm":
        scaled = g.op("Add", f"{path}/shifted", scaled, g.weight(f"{name}.bias"))
    return g.narrow(outer, scaled)


def _activation(g: GraphBuilder, a: Architecture, path: str, x: str) -> str:
    if a.activation == "relu":
        return g.op("Relu", path, x)
    if a.activation == "silu":
        return g.op("Mul", path, x, g.op("Sigmoid", f"{path}/sigmoid", x))
    return g.narrow(path, _gelu(g, a, g.wide_path(path), g.wide(path, x)))


def _gelu(g: GraphBuilder, a: Architecture, path: str, x: str) -> str:
    """Both kinds in float32: in half, 1 + erf keeps three bits where erf is near -1."""
    if a.activation == "gelu":
        scaled = g.op("Div", f"{path}/scaled", x, g.scalar(math.sqrt(2.0)))
        inner = g.op("Erf", f"{path}/erf", scaled)
    else:
        inner = g.op("Tanh", f"{path}/tanh", _gelu_tanh_argument(g, path, x))
    shifted = g.op("Add", f"{path}/shifted", inner, g.scalar(1.0))
    product = g.op("Mul", f"{path}/product", x, shifted)
    return g.op("Mul", f"{path}/half", product, g.scalar(0.5))


def _gelu_tanh_argument(g: GraphBuilder, path: str, x: str) -> str:
    cube = g.op("Pow", f"{path}/cube", x, g.scalar(3.0))
    small = g.op("Mul", f"{path}/small", cube, g.scalar(0.044715))
    inner = g.op("Add", f"{path}/inner", x, small)
    return g.op("Mul", f"{path}/argument", inner, g.scalar(math.sqrt(2.0 / math.pi)))
