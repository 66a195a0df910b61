"""The values of the enums, where a value matters: masks, shifts, what is printed.

Sources: NvInfer.h and NvInferRuntime.h of 8.2 and 10.3 from memory of their order; the numbers of
TensorRT-RTX 1.7's Python module, which was asked, agree wherever both have a name. A name that
stands nowhere here gets the next free number, which then is the double's own.
"""

from .make_names import ENUMS
from .surface import cut_enum

ARITHMETIC = ("BuilderFlag", "NetworkDefinitionCreationFlag", "Severity", "TacticSource")
_FLAGS = "REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE OBEY_PRECISION_CONSTRAINTS"
_FLAGS += " PREFER_PRECISION_CONSTRAINTS DIRECT_IO REJECT_EMPTY_ALGORITHMS"
_FIRST = "FP16 INT8 DEBUG GPU_FALLBACK"
_ORDERS = {
    "DataType": "FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64 INT4 FP4 E8M0",
    "ErrorCode": "SUCCESS INTERNAL_ERROR MEM_ALLOC_FAILED MODEL_DESERIALIZE_FAILED INVALID_VALUE "
    "INVALID_GRAPH INVALID_NODE UNSUPPORTED_GRAPH UNSUPPORTED_NODE",
    "ExecutionContextAllocationStrategy": "STATIC ON_PROFILE_CHANGE USER_MANAGED",
    "HardwareCompatibilityLevel": "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY",
    "MemoryPoolType": "WORKSPACE DLA_MANAGED_SRAM DLA_LOCAL_DRAM DLA_GLOBAL_DRAM TACTIC_DRAM "
    "TACTIC_SHARED_MEMORY",
    "NetworkDefinitionCreationFlag": "EXPLICIT_BATCH STRONGLY_TYPED",
    "ProfilingVerbosity": "LAYER_NAMES_ONLY NONE DETAILED",
    "Severity": "INTERNAL_ERROR ERROR WARNING INFO VERBOSE",
    "TacticSource": "CUBLAS CUBLAS_LT CUDNN EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
    "TensorFormat": "LINEAR CHW2 HWC8 CHW4 CHW16 CHW32 DHWC8 CDHW32 HWC DLA_LINEAR DLA_HWC4 HWC16",
    "TensorIOMode": "NONE INPUT OUTPUT",
    "TensorLocation": "DEVICE HOST",
}


def make_enums(names, release):
    """Enum name -> class, of one version."""
    return {
        name: cut_enum(name, _values(name, names[name], release), name in ARITHMETIC)
        for name in ENUMS + ("Severity",)
        if name in names
    }


def _values(name, members, release):
    order = _ORDERS.get(name, "").split()
    if name == "BuilderFlag":
        order = (_FIRST + (" STRICT_TYPES " if release < (10,) else " ") + _FLAGS).split()
    members = [member for member in members if not member.startswith("__")]
    known = {member: order.index(member) for member in members if member in order}
    next_free = len(order)
    for member in sorted(set(members) - set(known)):
        known[member] = next_free
        next_free += 1
    return dict(sorted(known.items(), key=lambda pair: pair[1]))
