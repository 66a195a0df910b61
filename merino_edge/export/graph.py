"""A small builder of ONNX graphs: nodes with path names, constants once, weights as references.

The one idea: the graph never holds a large array. A weight is an initializer whose bytes lie in
the safetensors file beside the model, at the offset that file's own header gives; so a weight
that ten layers share is one reference, and every reader can map the file. How a matrix is stored,
and so how it is multiplied with, is not known here but to the ``Matrices`` that a builder is given.

In a graph of half precision, ``wide`` and ``narrow`` are the borders of a region that computes in
float32, and ``wide_path`` names what lies between them: "/fp32/" in a node's name is a promise that
TensorRT 8, which may choose precisions itself, is held to by that name.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from merino_edge.formats.weights import Shape, TensorEntry

OPSET = 13  # the last that TensorRT 8.2's parser takes
IR_VERSION = 7  # what opset 13 came with; ONNX Runtime 1.10 reads up to 8
FLOAT, FLOAT16, INT32 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32
FP32_NODES = ["*/fp32/*"]
RESHAPED = "/reshaped"  # ends the name of a second view of a weight's bytes
CONTRIB = "com.microsoft"  # the domain of ONNX Runtime's own operators
_DTYPES = {"F32": FLOAT, "F16": FLOAT16, "U8": TensorProto.UINT8}


class Matrices(Protocol):
    """How the stored matrices of a graph are used; ``export.matrices`` has the ways there are."""

    def product(
        self, g: "GraphBuilder", path: str, value: str, name: str, bias: str, out: str
    ) -> str:
        """Multiply [q, n_in] with the transpose of a matrix; ``bias`` and ``out`` may be ""."""

    def rows(self, g: "GraphBuilder", path: str, name: str, ids: str) -> str:
        """Rows of a matrix, one for each id."""


class GraphBuilder:
    """Collects nodes and initializers; ``op`` returns the name of what a node gives.

    Attributes:
        compute: Type of activations and matrices: FLOAT or FLOAT16.
    """

    def __init__(
        self,
        weights: Mapping[str, TensorEntry],
        weights_file: str,
        matrices: Matrices,
        compute: int = FLOAT,
    ):
        self.compute = compute
        self._matrices = matrices
        self._weights = weights
        self._weights_file = weights_file
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def op(self, kind: str, path: str, *inputs: str, output: str = "", **attributes) -> str:
        """Add a node; ``path`` names it and, unless ``output`` does, its result."""
        return self.ops(kind, path, list(inputs), [output or path], **attributes)[0]

    def ops(
        self, kind: str, path: str, inputs: list[str], outputs: list[str], **attributes
    ) -> list[str]:
        """Add a node with several results, which ``outputs`` names."""
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=path, **attributes))
        return outputs

    def product(self, path: str, value: str, name: str, bias: str = "", output: str = "") -> str:
        """Multiply with the transpose of a stored matrix, and add a stored bias."""
        return self._matrices.product(self, path, value, name, bias, output)

    def rows(self, path: str, name: str, ids: str) -> str:
        """Look rows of a stored matrix up."""
        return self._matrices.rows(self, path, name, ids)

    def split(
        self, path: str, value: str, sizes: list[int], axis: int, outputs: list[str] | None = None
    ) -> list[str]:
        """Split along an axis into parts of fixed sizes; ``outputs`` names the parts."""
        results = outputs or [f"{path}.{i}" for i in range(len(sizes))]
        return self.ops("Split", path, [value, self.ints(*sizes)], results, axis=axis)

    def weight(self, name: str) -> str:
        """Reference a stored tensor; the second reference costs nothing."""
        if name not in self._initializers:
            self._initializers[name] = _external(name, self._weights[name], self._weights_file)
        return name

    def reshaped_weight(self, name: str, shape: Shape) -> str:
        """Reference the bytes of a stored tensor a second time, in another shape."""
        alias = name + RESHAPED
        self._initializers[alias] = _external(
            alias, self._weights[name]._replace(shape=shape), self._weights_file
        )
        return alias

    def rows_of(self, name: str) -> int:
        """First dimension of a stored tensor."""
        return self._weights[name].shape[0]

    def ints(self, *values: int) -> str:
        """A small int64 vector: shapes, axes, sizes."""
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def scalar(self, value: float, dtype: int = FLOAT) -> str:
        """A scalar, float32 unless asked otherwise."""
        array = np.array(value, helper.tensor_dtype_to_np_dtype(dtype))
        return self.constant(f"scalar_{value!r}" + ("_fp16" if dtype == FLOAT16 else ""), array)

    def wide_path(self, path: str) -> str:
        """The path of nodes that compute in float32 whatever the others do."""
        return path if self.compute == FLOAT else f"{path}/fp32"

    def wide(self, path: str, value: str) -> str:
        """The value in float32; itself, if everything is."""
        if self.compute == FLOAT:
            return value
        return self.op("Cast", f"{self.wide_path(path)}/in", value, to=FLOAT)

    def narrow(self, path: str, value: str) -> str:
        """Back from float32 to the type of the others."""
        if self.compute == FLOAT:
            return value
        return self.op("Cast", f"{path}/narrow", value, to=self.compute)

    def as_compute(self, array: np.ndarray) -> np.ndarray:
        """The array in the type of activations."""
        return array.astype(helper.tensor_dtype_to_np_dtype(self.compute))

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
        if any(node.domain == CONTRIB for node in self._nodes):
            opsets.append(helper.make_opsetid(CONTRIB, 1))
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
