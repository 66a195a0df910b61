"""A small builder of ONNX graphs: nodes with path names, constants once, weights as references.

The one idea: the graph never holds a large array. A weight is an initializer whose bytes lie in
the safetensors file beside the model, at the offset that file's own header gives; so a weight
that ten layers share is one reference, and every reader can map the file.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from merino_edge.formats.weights import TensorEntry

OPSET = 13  # the last that TensorRT 8.2's parser takes
IR_VERSION = 7  # what opset 13 came with; ONNX Runtime 1.10 reads up to 8
FLOAT, INT32 = TensorProto.FLOAT, TensorProto.INT32
_DTYPES = {"F32": TensorProto.FLOAT}


class GraphBuilder:
    """Collects nodes and initializers; ``op`` returns the name of what a node gives."""

    def __init__(self, weights: Mapping[str, TensorEntry], weights_file: str):
        self._weights = weights
        self._weights_file = weights_file
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def op(self, kind: str, path: str, *inputs: str, output: str = "", **attributes) -> str:
        """Add a node; ``path`` names it and, unless ``output`` does, its result."""
        result = output or path
        self._nodes.append(helper.make_node(kind, inputs, [result], name=path, **attributes))
        return result

    def split(
        self, path: str, value: str, sizes: list[int], axis: int, outputs: list[str] | None = None
    ) -> list[str]:
        """Split along an axis into parts of fixed sizes; ``outputs`` names the parts."""
        results = outputs or [f"{path}.{i}" for i in range(len(sizes))]
        inputs = [value, self.ints(*sizes)]
        self._nodes.append(helper.make_node("Split", inputs, results, name=path, axis=axis))
        return results

    def weight(self, name: str) -> str:
        """Reference a stored tensor; the second reference costs nothing."""
        if name not in self._initializers:
            self._initializers[name] = _external(name, self._weights[name], self._weights_file)
        return name

    def ints(self, *values: int) -> str:
        """A small int64 vector: shapes, axes, sizes."""
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(f"scalar_{value!r}", np.array(value, np.float32))

    def constant(self, name: str, array: np.ndarray) -> str:
        """A constant that lies inside the ONNX file; equal names must mean equal arrays."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(array, name)
        return name

    def input(self, name: str, dtype: int, shape: list[int | str]) -> str:
        """Declare an input of the graph."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, dtype: int, shape: list[int | str]) -> None:
        """Declare an output of the graph; a node must give it."""
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))

    def model(self, name: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The finished model."""
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, list(self._initializers.values())
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="merino-edge"
        )
        helper.set_model_props(model, dict(metadata))
        return model


def _external(name: str, entry: TensorEntry, weights_file: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=_DTYPES[entry.dtype], dims=entry.shape)
    tensor.data_location = TensorProto.EXTERNAL
    facts = {"location": weights_file, "offset": entry.offset, "length": entry.n_bytes}
    for key, value in facts.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor
