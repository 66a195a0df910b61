"""Other layouts of the cache: where its axes lie, and how long a past may be.

The one idea: each variant is a small change of the graph that we ship, so that nothing else can
make the difference. The graph works on keys as [n_kv_head, head_dim, past] and on values as
[n_kv_head, past, head_dim]; what the cache's own order of axes makes of the two Transpose nodes
before them is worked out here, and where the order is that already, the node goes.

A past of any length, or of some bucket's, must be a prefix of its buffer. Only sequence-major rows
have one: in [n_kv_head, context, head_dim] the first rows of the second head follow the *whole*
first head, and ONNX knows no strides. So the other orders go with one length, the context's.
"""

from dataclasses import dataclass

import onnx
from onnx import helper

from merino_edge.errors import SpecError
from merino_edge.formats.engine_spec import ShapeProfile

SEQUENCE, HEADS, SIZE = 0, 1, 2  # axes of a sequence-major cache: past, n_kv_head, head_dim
SEQUENCE_MAJOR = (SEQUENCE, HEADS, SIZE)
HEAD_MAJOR = (HEADS, SEQUENCE, SIZE)
TRANSPOSED = (HEADS, SIZE, SEQUENCE)
_WANTED = {"key": TRANSPOSED, "value": HEAD_MAJOR}
_NODES = {"key": "past_t", "value": "past_v"}
EXACT, BUCKETS, STATIC = "exact", "buckets", "static"


@dataclass(frozen=True)
class Layout:
    """How a cache lies, and how long a past may be.

    Attributes:
        name: In files and tables.
        key, value: Order of axes.
        lengths: EXACT (the tokens that there are), BUCKETS or STATIC (the context).
    """

    name: str
    key: tuple[int, ...]
    value: tuple[int, ...]
    lengths: str

    def __post_init__(self) -> None:
        prefixed = self.key[0] == self.value[0] == SEQUENCE
        if self.lengths != STATIC and not prefixed:
            raise SpecError(f"{self.name}: a part of such a cache is no prefix of its buffer.")

    def past_len(self, position: int, buckets: list[int]) -> int:
        """Rows of the past, hidden ones included, when there are ``position`` tokens."""
        if self.lengths == EXACT:
            return position
        if self.lengths == STATIC:
            return buckets[-1]
        return next(length for length in buckets if length >= position)

    def apply(self, model: onnx.ModelProto, context_len: int) -> onnx.ModelProto:
        """The graph for this layout; the argument stays as it is."""
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        for kind, axes in (("key", self.key), ("value", self.value)):
            _relayout(changed.graph, kind, axes)
        if self.lengths == STATIC:
            _fix(changed.graph, "past_len", context_len)
        return changed

    def profiles(self, shipped: list[ShapeProfile]) -> list[ShapeProfile]:
        """Those of the bundle, with this layout's lengths of the past."""
        longest = shipped[0].dims["past_len"][2]
        ranges = {EXACT: (1, longest // 2, longest), STATIC: (longest,) * 3}
        past = ranges.get(self.lengths, shipped[0].dims["past_len"])
        return [p._replace(dims={**p.dims, "past_len": past}) for p in shipped]


SHIPPED = "sequence-major, buckets"
LAYOUTS = (
    Layout("sequence-major, exact", SEQUENCE_MAJOR, SEQUENCE_MAJOR, EXACT),
    Layout(SHIPPED, SEQUENCE_MAJOR, SEQUENCE_MAJOR, BUCKETS),
    Layout("sequence-major, static", SEQUENCE_MAJOR, SEQUENCE_MAJOR, STATIC),
    Layout("head-major, static", HEAD_MAJOR, HEAD_MAJOR, STATIC),
    Layout("keys transposed, static", TRANSPOSED, HEAD_MAJOR, STATIC),
)


def _relayout(graph: onnx.GraphProto, kind: str, axes: tuple[int, ...]) -> None:
    wanted, renamed, dropped = _WANTED[kind], {}, []
    for node in graph.node:
        if not node.name.endswith("/" + _NODES[kind]):
            continue
        perm = [axes.index(axis) for axis in wanted]
        if perm == sorted(perm):
            renamed[node.output[0]] = node.input[0]
            dropped.append(node)
        node.attribute[0].CopyFrom(helper.make_attribute("perm", perm))
    for node in dropped:
        graph.node.remove(node)
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    for value in graph.input:
        if value.name.startswith("past_key_values.") and value.name.endswith("." + kind):
            _permute(value, axes)


def _permute(value: onnx.ValueInfoProto, axes: tuple[int, ...]) -> None:
    shape = value.type.tensor_type.shape
    dims = [shape.dim[axis] for axis in axes]
    turned = onnx.TensorShapeProto()
    turned.dim.extend(dims)
    shape.CopyFrom(turned)


def _fix(graph: onnx.GraphProto, name: str, length: int) -> None:
    for value in graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == name:
                dim.dim_value = length  # the two are a oneof: this clears the name
