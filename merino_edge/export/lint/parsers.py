"""What each target's ONNX parser takes: opset, operators, types. Data, with its sources.

The one idea: versions differ in values, never in code. Every operator has one row that says which
TensorRT brought its importer and, for the versions before 9 that are strict about it, which types
its data may have; a target is the versions of TensorRT that a bundle for it may meet.

Sources: 8.2 from onnx-tensorrt release/8.2-GA (commit 85e79f6), docs/operators.md, corrected where
builtin_op_importers.cpp says otherwise; later arrivals from docs/Changelog.md there; RTX from
``OnnxParser.supports_operator`` of TensorRT-RTX 1.7.1.116, which a test asks again.
"""

from dataclasses import dataclass
from typing import NamedTuple

from onnx import TensorProto as T

from merino_edge.errors import UnsupportedError

Version = tuple[int, int]
ONNX_RUNTIME, TENSORRT, RTX = "onnxruntime", "tensorrt", "tensorrt-rtx"

_F = frozenset({T.FLOAT, T.FLOAT16})
_F8, _FI = _F | {T.INT8}, _F | {T.INT32}
_F8I, _FIB = _F8 | {T.INT32}, _FI | {T.BOOL}
_ANY = _F8I | {T.BOOL}
_BOOL, _INT8 = frozenset({T.BOOL}), frozenset({T.INT8})
# Types -> operators, as of 8.2. Against the document, the importers: take Reciprocal, and INT32 in
# Clip; refuse BOOL in Where (importWhere) and INT32 in Sign (unaryHelper).
_OPERATORS_8_2: dict[frozenset[int], str] = {
    _F: """
        Acos Acosh ArgMax ArgMin Asin Asinh Atan Atanh BatchNormalization Ceil Celu Cos Cosh CumSum
        Dropout Einsum Erf Exp Floor GRU ImageScaler InstanceNormalization LRN LSTM Log LogSoftmax
        LpNormalization MatMul NonMaxSuppression Pow QuantizeLinear RNN RandomUniform
        RandomUniformLike Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
        ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Resize ReverseSequence Scan Sin
        Sinh Softmax Sqrt Tan TopK Upsample""",
    _F8: """
        Conv ConvTranspose Elu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool HardSigmoid
        LeakyRelu LpPool MaxPool PRelu ParametricSoftplus Relu Round ScaledTanh Selu Sigmoid Sign
        Softplus Softsign Tanh ThresholdedRelu""",
    _FI: """
        Abs Add DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less LessOrEqual Max Mean Min
        Mul Neg Range SpaceToDepth Sub Sum Where""",
    _F8I: "AveragePool Clip Gather GatherElements GatherND Pad Scatter ScatterElements ScatterND",
    _FIB: "Expand EyeLike Flatten If Loop Split Tile",
    _ANY: """
        Cast Concat Constant ConstantOfShape Identity Reshape Shape Size Slice Squeeze Transpose
        Unsqueeze""",
    _BOOL: "And Not Or",
    _INT8: "DequantizeLinear",
}
# What came after 8.0. Versions before 8.0 do not matter here.
_ARRIVED: dict[Version, str] = {
    (8, 2): "Einsum IsNaN GatherND Scatter ScatterElements ScatterND Sign Round",
    (8, 4): "HardSwish Shrink Xor",
    (8, 5): """
        GridSample MeanVarianceNormalization Mod NonZero OneHot RandomNormal RandomNormalLike
        RoiAlign Trilu""",
    (8, 6): "GroupNormalization IsInf LayerNormalization",
    (9, 2): "Hardmax",
    (10, 0): "CastLike Gelu",
    (10, 1): "DeformConv",
    (10, 4): "BlackmanWindow HammingWindow HannWindow",
    (10, 5): "STFT",
    # Seen in RTX 1.7 only; which TensorRT had them first is not known here.
    (11, 0): """
        Attention CausalConvWithState LinearAttention Mish RMSNormalization RotaryEmbedding Swish
        TensorScatter""",
}


class Importer(NamedTuple):
    """Since when an operator can be parsed, and the types that 8.2 takes (None: it lacks it)."""

    since: Version
    types: frozenset[int] | None


def _table() -> dict[str, Importer]:
    since = {name: version for version, names in _ARRIVED.items() for name in names.split()}
    types = {name: kinds for kinds, names in _OPERATORS_8_2.items() for name in names.split()}
    return {name: Importer(since.get(name, (8, 0)), types.get(name)) for name in {**types, **since}}


IMPORTERS = _table()
# Before 9.0, INT64 and DOUBLE become INT32 and FLOAT on the way in (convertDtype).
_TENSORS_8 = _ANY | {T.INT64, T.DOUBLE}
_TENSORS_10 = _TENSORS_8 | {T.UINT8, T.BFLOAT16, T.FLOAT8E4M3FN, T.INT4}


@dataclass(frozen=True)
class Parser:
    """The parser that a bundle meets on a target.

    Attributes:
        name: For people.
        kind: ONNX_RUNTIME, TENSORRT or RTX.
        versions: Versions of TensorRT that the target may have, ascending; RTX counts as 11.0.
        max_opset: Newest opset of ai.onnx that it takes.
        tensor_types: Types that a tensor may have.
        chooses_precision: Its builder may compute a float32 node in half unless told not to.
        lacks: Operators of its age that it does not have.
        own: Operators of its own domain, com.microsoft, that this project writes.
    """

    name: str
    kind: str
    versions: tuple[Version, ...]
    max_opset: int
    tensor_types: frozenset[int]
    chooses_precision: bool = False
    lacks: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()

    @property
    def oldest(self) -> Version:
        """The oldest version that the target may have."""
        return self.versions[0]

    @property
    def newest(self) -> Version:
        """The version that the target is meant for."""
        return self.versions[-1]

    def imports(self, operator: str, version: Version) -> bool:
        """Whether a version of TensorRT has an importer for an operator."""
        importer = IMPORTERS.get(operator)
        return importer is not None and importer.since <= version and operator not in self.lacks


# ONNX Runtime implements all of the standard; 13 is the newest opset that this project writes.
_ORT = Parser(
    "ONNX Runtime",
    ONNX_RUNTIME,
    ((0, 0),),
    13,
    _TENSORS_10,
    own=frozenset({"GatherBlockQuantized", "MatMulNBits"}),
)
_NANO = Parser("TensorRT 8.2", TENSORRT, ((8, 0), (8, 2)), 13, _TENSORS_8, chooses_precision=True)
PARSERS = {
    "host": _ORT,
    "mock-nano": _ORT,
    "nano-cpu": _ORT,
    "nano": _NANO,
    # TensorRT 10's documentation names opsets 9 to 20, TensorRT 11's up to 25.
    "orin-nano": Parser(
        "TensorRT 10.3", TENSORRT, ((10, 3),), 20, _TENSORS_10, chooses_precision=True
    ),
    "rtx": Parser(
        "TensorRT-RTX 1.7", RTX, ((11, 0),), 25, _TENSORS_10, lacks=frozenset({"DeformConv"})
    ),
}


def parser_of(target: str) -> Parser:
    """The parser of a target.

    Raises:
        UnsupportedError: There are no rules for it; names those that have some.
    """
    if target not in PARSERS:
        known = ", ".join(PARSERS)
        raise UnsupportedError(
            f"there are no graph rules for target '{target}'.", f"known: {known}."
        )
    return PARSERS[target]
