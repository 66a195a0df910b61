"""The door to CUDA through libcudart and ctypes: no compiler, no package, and CUDA graphs.

The one idea: the device has one *primary* context, which libcudart and TensorRT share. It is made
when the door opens, and ``activate`` makes it current in a thread only if another one is, then puts
the other one back.
"""

# ruff: noqa: D102 (what the methods promise stands in api.Cuda)

import ctypes
from ctypes import byref, c_float, c_int, c_size_t, c_void_p
from functools import partial
from typing import Any, ContextManager, Optional, Tuple

import numpy as np

from merino_edge.errors import CudaError
from merino_edge.runtime.cuda.api import (
    EVENT,
    GRAPH,
    HOST,
    MEMORY,
    STREAM,
    Cuda,
    HostBuffer,
    check_positive,
)
from merino_edge.runtime.cuda.cudart_context import open_context
from merino_edge.runtime.cuda.cudart_library import PATH_VARIABLE, CudartLibrary, library_paths

DEVICE = 0
_HOST_ALLOC_MAPPED = 2
_COPY_DEFAULT, _COPY_DEVICE_TO_DEVICE = 4, 3  # the default finds the sides by the addresses
_NON_BLOCKING = 1
_CAPTURE_THREAD_LOCAL = 1  # other threads may go on allocating
_INTEGRATED, _CAPABILITY_MAJOR, _CAPABILITY_MINOR = 18, 75, 76
_NAME_BYTES, _ANY_PROPERTIES_BYTES = 256, 8192  # cudaDeviceProp is about 1 KB in CUDA 13

_INSUFFICIENT_DRIVER = 35
_DRIVER_HINT = (
    "there is no NVIDIA driver here, or it is older than this library; 'nvidia-smi' tells. "
    "{}=PATH chooses another libcudart.".format(PATH_VARIABLE)
)
_DEVICE_HINT = (
    "'merino-edge doctor' says what this machine has; a container needs '--runtime nvidia'."
)


class Cudart(Cuda):
    """CUDA through one libcudart.

    Args:
        path: Of the library, or a name that the loader knows.

    Raises:
        CudaError: It is no libcudart, or finds no device to work with.
    """

    can_capture = True

    def __init__(self, path: str):
        super().__init__()
        self._library = CudartLibrary(path)
        self._call = self._library.call
        self.runtime_version = self._version()
        self.name = "cudart " + self.runtime_version
        self._check_device()
        self._context = open_context(self._library)
        self.device_name = self._device_name()
        self.integrated = bool(self._attribute(_INTEGRATED))
        self.compute_capability = (
            self._attribute(_CAPABILITY_MAJOR),
            self._attribute(_CAPABILITY_MINOR),
        )

    def activate(self) -> ContextManager[None]:
        self._check_open()
        return self._context.activated()

    def memory(self) -> Tuple[int, int]:
        free, total = c_size_t(), c_size_t()
        self._call("cudaMemGetInfo", byref(free), byref(total))
        return free.value, total.value

    def malloc(self, n_bytes: int) -> int:
        check_positive(n_bytes)
        address = self._new("cudaMalloc", n_bytes, needed_bytes=n_bytes)
        return self._take(MEMORY, address, partial(self._call, "cudaFree", address))

    def host_alloc(self, n_bytes: int) -> HostBuffer:
        check_positive(n_bytes)
        address = self._new("cudaHostAlloc", n_bytes, _HOST_ALLOC_MAPPED, needed_bytes=n_bytes)
        self._take(HOST, address, partial(self._call, "cudaFreeHost", address))
        memory = (ctypes.c_uint8 * n_bytes).from_address(address)
        return HostBuffer(
            np.ctypeslib.as_array(memory),
            self._new("cudaHostGetDevicePointer", address, 0),
        )

    def memset_async(self, address: int, value: int, n_bytes: int, stream: int) -> None:
        self._call("cudaMemsetAsync", address, value, n_bytes, stream)

    def copy_async(self, dst: int, src: int, n_bytes: int, stream: int) -> None:
        self._call("cudaMemcpyAsync", dst, src, n_bytes, _COPY_DEFAULT, stream)

    def copy_2d_async(
        self,
        dst: int,
        dst_pitch: int,
        src: int,
        src_pitch: int,
        width_bytes: int,
        height: int,
        stream: int,
    ) -> None:
        self._call(
            "cudaMemcpy2DAsync",
            *(dst, dst_pitch, src, src_pitch),
            *(width_bytes, height, _COPY_DEVICE_TO_DEVICE, stream),
        )

    def create_stream(self) -> int:
        stream = self._new("cudaStreamCreateWithFlags", _NON_BLOCKING)
        return self._take(STREAM, stream, partial(self._call, "cudaStreamDestroy", stream))

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def create_event(self) -> int:
        event = self._new("cudaEventCreate")
        return self._take(EVENT, event, partial(self._call, "cudaEventDestroy", event))

    def record(self, event: int, stream: int) -> None:
        self._call("cudaEventRecord", event, stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        elapsed = c_float()
        self._call("cudaEventSynchronize", end)
        self._call("cudaEventElapsedTime", byref(elapsed), start, end)
        return elapsed.value

    def begin_capture(self, stream: int) -> None:
        self._call("cudaStreamBeginCapture", stream, _CAPTURE_THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        captured = c_void_p()
        self._call("cudaStreamEndCapture", stream, byref(captured))
        try:
            graph = self._library.instantiate(captured)
        finally:
            self._call("cudaGraphDestroy", captured)
        return self._take(GRAPH, graph, partial(self._call, "cudaGraphExecDestroy", graph))

    def launch(self, graph: int, stream: int) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def _new(self, name: str, *arguments: Any, **kept: int) -> int:
        """Calls a function whose first argument receives an address or a handle."""
        made = c_void_p()
        self._call(name, byref(made), *arguments, **kept)
        return int(made.value or 0)

    def _version(self) -> str:
        version = c_int()
        self._call("cudaRuntimeGetVersion", byref(version))
        return "{}.{}".format(version.value // 1000, version.value % 1000 // 10)

    def _check_device(self) -> None:
        count = c_int()
        try:
            self._call("cudaGetDeviceCount", byref(count))
        except CudaError as error:
            raise _no_device(error, self._library.path, self.name)

    def _attribute(self, which: int) -> int:
        value = c_int()
        self._call("cudaDeviceGetAttribute", byref(value), which, DEVICE)
        return value.value

    def _device_name(self) -> str:
        properties = ctypes.create_string_buffer(_ANY_PROPERTIES_BYTES)
        self._call("cudaGetDeviceProperties", properties, DEVICE)
        return properties.raw[:_NAME_BYTES].split(b"\0")[0].decode("utf-8", "replace")


def open_cudart() -> Optional[Cudart]:
    """The first libcudart that can work; None if there is no libcudart at all.

    Raises:
        CudaError: There are some, and this is what the first of them said.
    """
    failure = None
    for path in library_paths():
        try:
            return Cudart(path)
        except CudaError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return None


def _no_device(error: CudaError, path: str, name: str) -> CudaError:
    return CudaError(
        "no GPU can be used: " + error.message,
        error.call,
        error.code_name,
        error.code,
        note="asked through {} ({}).".format(path, name),
        hint=_DRIVER_HINT if error.code == _INSUFFICIENT_DRIVER else _DEVICE_HINT,
    )
