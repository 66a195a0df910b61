"""NVIDIA's own libcudart and its header, where this machine has them; a GPU is not needed."""

import ctypes
import glob
import os
import re
import shutil

import numpy as np
import pytest

from merino_edge.errors import CudaError
from merino_edge.runtime.cuda import cudart_library
from merino_edge.runtime.cuda.cudart import Cudart
from merino_edge.runtime.cuda.cudart_library import CudartLibrary, library_paths
from merino_edge.runtime.cuda.open import open_cuda

LIBRARIES = list(library_paths())
no_library = pytest.mark.skipif(not LIBRARIES, reason="there is no libcudart here")


@no_library
@pytest.mark.parametrize("path", LIBRARIES)
def test_every_function_that_the_door_uses_is_exported(path):
    CudartLibrary(path)


@no_library
@pytest.mark.parametrize("path", LIBRARIES)
@pytest.mark.parametrize(
    ("code", "name"),
    [
        (2, "cudaErrorMemoryAllocation"),
        (35, "cudaErrorInsufficientDriver"),
        (100, "cudaErrorNoDevice"),
        (719, "cudaErrorLaunchFailure"),
        (901, "cudaErrorStreamCaptureInvalidated"),
    ],
)
def test_codes_mean_what_the_door_and_its_double_believe(path, code, name):
    assert CudartLibrary(path).error_text(code)[0] == name


@no_library
@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="there is a GPU here")
@pytest.mark.parametrize("path", LIBRARIES)
def test_a_machine_without_a_gpu_is_told_in_one_error(path):
    with pytest.raises(CudaError, match="no GPU can be used") as caught:
        Cudart(path)
    assert caught.value.code_name in ("cudaErrorInsufficientDriver", "cudaErrorNoDevice")
    assert path in str(caught.value)
    assert caught.value.hint


def header():
    """Text of cuda_runtime_api.h beside nvcc or in pip's package; None if there is none."""
    nvcc = shutil.which("nvcc")
    places = [os.path.join(os.path.dirname(os.path.realpath(nvcc)), "..")] if nvcc else []
    places += ["/usr/local/cuda"] + [os.path.join(os.path.dirname(p), "..") for p in LIBRARIES]
    for place in places:
        for path in glob.glob(os.path.join(place, "include", "cuda_runtime_api.h")):
            with open(path, encoding="utf-8") as lines:
                return lines.read()
    return None


def kind_of_c(argument):
    """What ctypes must pass for an argument as C declares it."""
    if "*" in argument or re.search(r"cuda(Stream|Event|Graph|GraphExec)_t", argument):
        return "address"
    if "size_t" in argument or "unsigned long long" in argument:
        return "word"
    return "unsigned" if "unsigned int" in argument else "int"


def kind_of_ctypes(kind):
    assert ctypes.sizeof(ctypes.c_size_t) == ctypes.sizeof(ctypes.c_ulonglong) == 8
    names = {ctypes.c_size_t: "word", ctypes.c_ulonglong: "word"}
    names.update({ctypes.c_int: "int", ctypes.c_uint: "unsigned"})
    return names.get(kind, "address")


TABLE = dict(cudart_library._CODES, **cudart_library._TEXTS)
TABLE["cudaGraphInstantiateWithFlags"] = cudart_library._INSTANTIATE_WITH_FLAGS


@pytest.mark.parametrize("name", sorted(TABLE))
def test_types_are_those_of_nvidias_header(name):
    text = header()
    if text is None:
        pytest.skip("there is no cuda_runtime_api.h here")
    declared = re.search(rf"CUDARTAPI {name}\(([^)]*(?:\(0\))?[^)]*)\)", text).group(1)
    arguments = [] if declared.strip() == "void" else declared.split(",")
    assert [kind_of_ctypes(kind) for kind in TABLE[name]] == [kind_of_c(a) for a in arguments]


@pytest.mark.gpu
def test_a_real_gpu_copies_and_replays():
    cuda = open_cuda("cudart")
    with cuda.activate():
        stream, address, buffer = cuda.create_stream(), cuda.malloc(4096), cuda.host_alloc(4096)
        cuda.begin_capture(stream)
        cuda.memset_async(address, 3, 4096, stream)
        cuda.copy_2d_async(address + 2048, 1024, address, 512, 256, 2, stream)
        cuda.copy_async(buffer.array.ctypes.data, address, 4096, stream)
        graph = cuda.end_capture(stream)
        for _ in range(2):
            buffer.array[:] = 0
            cuda.launch(graph, stream)
            cuda.synchronize(stream)
            np.testing.assert_array_equal(buffer.array, np.full(4096, 3, np.uint8))
    cuda.close()
