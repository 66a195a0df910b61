"""Strict doubles of the Python module ``tensorrt``: 8.0.1, 8.2.1, 8.6.1, 10.3, 11.0.

TensorRT 8.2 has no wheel, and a plan runs only on the GPU it was built for. A double has exactly
the names of its version (names.json), says no where that version says no, and instead of kernels
runs the ONNX file with ONNX Runtime on the raw addresses it is given.

What it does not know: speed, memory of activations, tactics and fusions, whether NVIDIA's parser
takes a graph beyond the rules of parser_rules.py, and how half rounds inside a kernel. Classes
that nothing here needs (plugins, calibrators, refitters, loops) are missing from the module.

Usage::

    trt = make("8.2.1", cuda=cudart_double)   # a module object to import as ``tensorrt``
    trt._faults.fail("enqueue", on=3)

Python 3.6, like the runtime that it tests.
"""

import importlib.machinery
import types

from . import builder, config, context, engine, logger, network, parser, shape_profile
from . import runtime as runtime_module
from . import timing_cache as timing
from .dtypes import numpy_type
from .library import Library
from .names import VERSIONS
from .plan import cut_host_memory, read_plan
from .surface import cut

__all__ = ["VERSIONS", "make", "read_plan"]

_IMPLEMENTATIONS = {
    "ILogger": logger.ILogger,
    "Dims": network.Dims,
    "ITensor": network.ITensor,
    "ILayer": network.ILayer,
    "INetworkDefinition": network.INetworkDefinition,
    "ParserError": parser.ParserError,
    "OnnxParser": parser.OnnxParser,
    "IOptimizationProfile": shape_profile.IOptimizationProfile,
    "ITimingCache": timing.ITimingCache,
    "IBuilderConfig": config.IBuilderConfig,
    "Builder": builder.Builder,
    "Runtime": runtime_module.Runtime,
    "ICudaEngine": engine.ICudaEngine,
    "IExecutionContext": context.IExecutionContext,
}
_ALIASES = {
    "float32": "FLOAT", "float16": "HALF", "int8": "INT8", "int32": "INT32", "bool": "BOOL",
    "uint8": "UINT8", "fp8": "FP8", "int64": "INT64", "bfloat16": "BF16", "int4": "INT4",
}  # fmt: skip


def make(version, cuda=None, compute_capability=None):
    """A module object that is ``tensorrt`` of a version.

    Args:
        version: One of VERSIONS.
        cuda: A CudartDouble: addresses are checked against its allocations, and an enqueue into a
            stream that is being captured is recorded. None: everything runs at once.
        compute_capability: Of the device, such as (5, 3); None for the board with this version.

    Returns:
        The module. Beside the real names it has ``_faults`` (see faults.py).
    """
    library = Library(version, cuda, compute_capability)
    for name, implementation in _IMPLEMENTATIONS.items():
        library.classes[name] = cut(library, name, implementation)
    base = library.classes["ILogger"]
    base.Severity = library.enums["Severity"]
    for name, severity in base.Severity.__members__.items():
        setattr(base, name, severity)
    library.classes["Logger"] = cut(library, "Logger", logger.Logger, base)
    library.classes["IHostMemory"] = cut_host_memory(library)
    return _module(library)


def _module(library):
    module = types.ModuleType("tensorrt", f"The double of TensorRT {library.version}.")
    module.__spec__ = importlib.machinery.ModuleSpec("tensorrt", None)
    module.__version__ = library.full_version
    module._faults = library.faults
    public = {name: kind for name, kind in library.enums.items() if name != "Severity"}
    public.update(library.classes)
    for name, kind in public.items():
        setattr(module, name, kind)
    for alias, name in _ALIASES.items():
        if library.has("DataType", name):
            setattr(module, alias, library.enum("DataType", name))
    module.nptype = lambda trt_type: numpy_type(trt_type.name)
    module.volume = _volume
    return module


def _volume(iterable):
    total = 1
    for dim in iterable:
        total *= dim
    return total
