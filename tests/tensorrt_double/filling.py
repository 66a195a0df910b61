"""From an accepted graph to tensors and layers.

The one idea: a node becomes a layer of its name, and beside it stand the helpers that nobody named:
where an elementwise operator meets operands of different ranks, "(Unnamed Layer* n) [Shuffle]"
reshapes the smaller one, and its bias makes a second layer "NAME_n" of a Gemm. A helper computes
in float32 only if it is told to, like every other layer.
"""

from .dtypes import dtype_from_onnx
from .layer_types import layer_type
from .rounding import operand

BROADCASTING = ("ELEMENTWISE", "SELECT", "MATRIX_MULTIPLY")


class Filling:
    """Fills a network.

    Args:
        library: The version.
        network: An empty INetworkDefinition.
        graph: Of ONNX, with inferred types and shapes.
        types: Name of a value -> its ONNX type.
    """

    def __init__(self, library, network, graph, types):
        self._library = library
        self._network = network
        self._graph = graph
        self._types = types
        self._shapes = _shapes(graph)
        self._tensors = {}

    def run(self):
        """Make inputs, layers, outputs."""
        stored = {each.name for each in self._graph.initializer}
        self._network._inputs = [
            self._tensor(each.name, "input")
            for each in self._graph.input
            if each.name not in stored
        ]
        results = {each.name for each in self._graph.output}
        for node in self._graph.node:
            for name in node.output:
                self._tensor(name, "output" if name in results else None)
        self._network._outputs = [self._tensor(each.name) for each in self._graph.output]
        for number, node in enumerate(self._graph.node):
            self._add_node(number, node)

    def _add_node(self, number, node):
        kind = layer_type(self._library, node.op_type)
        outputs = [self._tensor(name) for name in node.output if name]
        inputs = [
            self._lifted(number, index, node, kind) for index, name in enumerate(node.input) if name
        ]
        if node.op_type == "Gemm" and len(inputs) == 3:
            # Both layers stand for the one value: free to round if either is.
            product = self._hidden(outputs[0], node.output[0])
            self._add(node.name, kind, node.op_type, inputs[:2], [product])
            inputs = [product, inputs[2]]
            name = f"{node.name}_{len(self._network._layers)}" if node.name else ""
            self._add(name, "ELEMENTWISE", node.op_type, inputs, outputs)
            return
        self._add(node.name, kind, node.op_type, inputs, outputs)

    def _lifted(self, number, index, node, kind):
        """An operand, brought to the rank of the widest one by a helper if it needs to be."""
        tensor = self._tensor(node.input[index])
        ranks = [len(self._shapes.get(name, ([],))[0]) for name in node.input]
        if kind not in BROADCASTING or ranks[index] == max(ranks):
            return tensor
        lifted = self._hidden(tensor, operand(number, index))
        self._add("", "SHUFFLE", "", [tensor], [lifted])
        return lifted

    def _hidden(self, like, value):
        """A tensor that ONNX does not know; rounding it rounds ``value``."""
        name = f"(Unnamed Layer* {len(self._network._layers)}) [Shuffle]_output"
        made = self._library.classes["ITensor"]._new(**like.__dict__)
        made.__dict__.update(_name=name, _value=value, _role=None)
        return made

    def _tensor(self, name, role=None):
        if name not in self._tensors:
            numbers, names = self._shapes.get(name, ([], []))
            self._tensors[name] = self._library.classes["ITensor"]._new(
                _network=self._network,
                _name=name,
                _value=name,
                _onnx_type=self._types.get(name),
                _dtype=dtype_from_onnx(self._library, self._types.get(name)) or "FLOAT",
                _shape=numbers,
                _dim_names=names,
                _role=role,
                _formats=(1 << len(self._library.names["TensorFormat"])) - 1,
            )
        return self._tensors[name]

    def _add(self, name, kind, operator, inputs, outputs):
        casts = operator == "Cast" and not self._network._is_strong
        layer = self._library.classes["ILayer"]._new(
            _network=self._network,
            _name=name or f"(Unnamed Layer* {len(self._network._layers)}) [{kind.title()}]",
            _type=kind,
            _operator=operator,
            _inputs=inputs,
            _outputs=outputs,
            _precision=None,
            _output_types={0: outputs[0]._dtype} if casts else {},
        )
        self._network._layers.append(layer)


def value_types(graph):
    """Name of a value -> its ONNX type."""
    types = {each.name: each.type.tensor_type.elem_type for each in _declared(graph)}
    types.update((each.name, each.data_type) for each in graph.initializer)
    return types


def _shapes(graph):
    """Name of a value -> (numbers with -1 for the unknown, names or None)."""
    shapes = {each.name: _dims_of(each.type.tensor_type.shape) for each in _declared(graph)}
    for each in graph.initializer:
        shapes[each.name] = (list(each.dims), [None] * len(each.dims))
    return shapes


def _declared(graph):
    return list(graph.value_info) + list(graph.input) + list(graph.output)


def _dims_of(shape):
    numbers = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in shape.dim]
    return numbers, [dim.dim_param or None for dim in shape.dim]
