"""Which TensorRT layer an ONNX operator becomes (the first, where the parser makes several).

An operator that is missing here is an error of the double, which says so, and not of the graph.
"""

_OPERATORS = {
    "ACTIVATION": "Clip Elu HardSigmoid HardSwish LeakyRelu Relu Selu Sigmoid Softplus Softsign "
    "Tanh ThresholdedRelu Gelu",
    "CONCATENATION": "Concat",
    "CONSTANT": "Constant",
    "EINSUM": "Einsum",
    "ELEMENTWISE": "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul "
    "Or Pow Sub Sum Xor",
    "FILL": "ConstantOfShape EyeLike Range RandomNormal RandomUniform",
    "GATHER": "Gather GatherElements GatherND",
    "IDENTITY": "CastLike Dropout Identity",
    "MATRIX_MULTIPLY": "Gemm MatMul",
    "NON_ZERO": "NonZero",
    "NORMALIZATION": "GroupNormalization LayerNormalization",
    "ONE_HOT": "OneHot",
    "REDUCE": "ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare",
    "SCATTER": "ScatterElements ScatterND",
    "SELECT": "Where Trilu",
    "SHAPE": "Shape Size",
    "SHUFFLE": "Flatten Reshape Squeeze Transpose Unsqueeze",
    "SLICE": "Expand Pad Slice Split Tile",
    "SOFTMAX": "LogSoftmax Softmax",
    "TOPK": "ArgMax ArgMin TopK",
    "UNARY": "Abs Acos Asin Atan Ceil Cos Cosh Erf Exp Floor IsInf IsNaN Log Neg Not Reciprocal "
    "Round Sign Sin Sinh Sqrt Tan",
    "RECURRENCE": "CumSum Loop Scan",
    "CONDITION": "If",
}
_TYPES = {operator: kind for kind, names in _OPERATORS.items() for operator in names.split()}


def layer_type(library, operator):
    """Name of the LayerType.

    Raises:
        NotImplementedError: The double does not know the operator.
    """
    if operator == "Cast":  # an identity with an output type until there was a layer for it
        return "CAST" if library.has("LayerType", "CAST") else "IDENTITY"
    if operator not in _TYPES:
        raise NotImplementedError(f"the double does not know which layer ONNX {operator} becomes")
    return _TYPES[operator]
