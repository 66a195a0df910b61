"""Three worlds of number types: ONNX's, TensorRT's and numpy's.

Before TensorRT 10 there is no INT64: such tensors become INT32, inputs and outputs of the network
too, whatever the ONNX file says. DOUBLE becomes FLOAT everywhere.
"""

import numpy as np

ONNX_FLOAT, ONNX_INT64, ONNX_BOOL, ONNX_HALF, ONNX_DOUBLE = 1, 7, 9, 10, 11
_FROM_ONNX = {1: "FLOAT", 3: "INT8", 6: "INT32", 9: "BOOL", 10: "HALF", 11: "FLOAT"}
_TO_NUMPY = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "UINT8": np.uint8,
}
ONNX_TO_NUMPY = {
    1: np.float32,
    3: np.int8,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
}


def dtype_from_onnx(library, onnx_type):
    """Name of the DataType that an ONNX type becomes; None if the parser takes no such tensor."""
    if onnx_type == ONNX_INT64:
        return "INT64" if library.takes_int64 else "INT32"
    return _FROM_ONNX.get(onnx_type)


def numpy_type(dtype_name):
    """numpy's type for a DataType's name.

    Raises:
        TypeError: numpy has none, as ``trt.nptype`` says.
    """
    if dtype_name not in _TO_NUMPY:
        raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
    return _TO_NUMPY[dtype_name]
