"""``import tensorrt`` for a child process: put the folder above this one on PYTHONPATH.

The environment says which: TENSORRT_DOUBLE_VERSION (8.2.1 if not set), TENSORRT_DOUBLE_CUDART
(path of the compiled CUDA double; not set: addresses are not checked),
TENSORRT_DOUBLE_CAPABILITY (such as 5.3) and TENSORRT_DOUBLE_FAULTS (JSON, see faults.py).
"""

import importlib
import os
import sys

_TESTS = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))


def _import_from_tests(name):
    sys.path.insert(0, _TESTS)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(_TESTS)


def _made():
    environment = os.environ
    cudart, cuda = environment.get("TENSORRT_DOUBLE_CUDART"), None
    if cudart:
        cuda = _import_from_tests("cuda_double").CudartDouble(cudart)
    capability = environment.get("TENSORRT_DOUBLE_CAPABILITY")
    return _import_from_tests("tensorrt_double").make(
        environment.get("TENSORRT_DOUBLE_VERSION", "8.2.1"),
        cuda,
        capability and tuple(int(part) for part in capability.split(".")),
    )


sys.modules[__name__] = _made()
