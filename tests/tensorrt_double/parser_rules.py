"""What NVIDIA's ONNX parser refuses, by version.

Source: the operator table and the importers of onnx-tensorrt at release/8.2-GA, and the releases
in which the missing importers arrived. The one idea: a rule looks at one node and gives the words
of refusal, or None.
"""

from .dtypes import ONNX_BOOL, ONNX_DOUBLE, ONNX_FLOAT, ONNX_HALF, ONNX_INT64

MAX_OPSET = {(8, 0): 13, (8, 2): 13, (8, 6): 17, (10, 3): 20, (11, 0): 24}
NEVER = (99,)
ARRIVED = {
    "Trilu": (8, 5), "OneHot": (8, 5), "NonZero": (8, 5), "Mod": (8, 5), "RandomNormal": (8, 5),
    "LayerNormalization": (8, 6), "GroupNormalization": (8, 6), "IsInf": (8, 6),
    "Shrink": (8, 4), "HardSwish": (8, 4), "Xor": (8, 4), "Gelu": (10,), "CastLike": (10,),
    "Compress": NEVER, "Unique": NEVER, "BitShift": NEVER, "MatMulInteger": NEVER,
    "DynamicQuantizeLinear": NEVER, "SequenceAt": NEVER, "SequenceConstruct": NEVER,
    "SequenceEmpty": NEVER, "SequenceErase": NEVER, "SequenceInsert": NEVER,
    "SequenceLength": NEVER, "SplitToSequence": NEVER, "ConcatFromSequence": NEVER,
}  # fmt: skip
# Operator -> positions of inputs that must be initializers or Constant nodes.
CONSTANT_INPUTS = {
    "CumSum": (1,), "Pad": (1,), "Slice": (3,), "Split": (1,), "Squeeze": (1,), "Tile": (),
    "TopK": (1,), "Unsqueeze": (1,),
}  # fmt: skip
FLOAT_TYPES = (ONNX_FLOAT, ONNX_HALF, ONNX_DOUBLE)
FLOAT_ONLY = {"ArgMax", "ArgMin", "TopK", "Softmax", "LogSoftmax", "ReduceMean", "ReduceMax"}
FLOAT_ONLY |= {"ReduceMin", "ReduceSum", "ReduceProd", "ReduceL2", "ReduceSumSquare"}
NO_BOOL_DATA = {"Gather": 0, "GatherElements": 0, "GatherND": 0, "Where": 1}


def check_opset(library, opset):
    """Words of refusal for a model's opset, or None."""
    most = MAX_OPSET[library.release[:2] if library.release < (11,) else (11, 0)]
    if opset > most:
        return f"opset {opset} is not supported by this version, which takes up to {most}"
    return None


def refusal(library, node, types, constants):
    """Why the parser does not take a node, or None.

    Args:
        library: The version.
        node: An ONNX NodeProto.
        types: Name of a value -> its ONNX type.
        constants: Names of the values that are initializers or Constant nodes.

    Returns:
        (name of the ErrorCode, words), or None.
    """
    if node.domain not in ("", "ai.onnx") or ARRIVED.get(node.op_type, ()) > library.release:
        text = "Plugin not found, are the plugin name, version, and namespace correct?"
        return "UNSUPPORTED_NODE", f"No importer registered for op: {node.op_type}. {text}"
    for position in CONSTANT_INPUTS.get(node.op_type, ()):
        name = node.input[position] if position < len(node.input) else ""
        if name and name not in constants:
            words = f"input {position} ('{name}') of {node.op_type} must be an initializer!"
            return "UNSUPPORTED_NODE", words
    return _check_types(library, node, types)


def _check_types(library, node, types):
    if library.release < (10,) and node.op_type in FLOAT_ONLY:
        kind = types.get(node.input[0])
        if kind is not None and kind not in FLOAT_TYPES:
            return "UNSUPPORTED_NODE", f"{node.op_type} takes floats only, not ONNX type {kind}"
    if library.release < (10,) and node.op_type in NO_BOOL_DATA:
        data = node.input[NO_BOOL_DATA[node.op_type]]
        words = f"{node.op_type} does not take BOOL data ({data})"
        return ("UNSUPPORTED_NODE", words) if types.get(data) == ONNX_BOOL else None
    return None


def needs_int64_warning(library, types):
    """Whether the parser says that it narrows INT64."""
    return not library.takes_int64 and ONNX_INT64 in types.values()
