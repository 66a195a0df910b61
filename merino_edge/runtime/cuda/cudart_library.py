"""libcudart, called with ctypes: which file it is, what its functions take, what its codes mean.

The one idea: every function has its types here. Without them ctypes passes and returns a C int, and
an address or handle loses its upper half: the call then fails far away, or writes elsewhere.

CUDA 10.2 to 13 export these functions with one meaning, but for two. A graph is instantiated with
``cudaGraphInstantiateWithFlags`` where that exists (11.4 and later), else with the five arguments
that ``cudaGraphInstantiate`` had before 12. The struct of ``cudaGetDeviceProperties`` grew with
each version; its name always comes first.
"""

import ctypes
import glob
import importlib.util
import itertools
import os
from ctypes import POINTER, c_char_p, c_float, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from typing import Any, Dict, Iterator, List, NoReturn, Tuple

from merino_edge.errors import CudaError, DeviceMemoryError

PATH_VARIABLE = "MERINO_EDGE_CUDART"
OUT_OF_MEMORY = 2

_HANDLE, _NEW_HANDLE = c_void_p, POINTER(c_void_p)
_CODES: Dict[str, List[Any]] = {
    "cudaRuntimeGetVersion": [POINTER(c_int)],
    "cudaGetDeviceCount": [POINTER(c_int)],
    "cudaSetDevice": [c_int],
    "cudaDeviceGetAttribute": [POINTER(c_int), c_int, c_int],
    "cudaGetDeviceProperties": [c_void_p, c_int],
    "cudaMemGetInfo": [POINTER(c_size_t), POINTER(c_size_t)],
    "cudaGetLastError": [],
    "cudaMalloc": [_NEW_HANDLE, c_size_t],
    "cudaFree": [c_void_p],
    "cudaHostAlloc": [_NEW_HANDLE, c_size_t, c_uint],
    "cudaHostGetDevicePointer": [_NEW_HANDLE, c_void_p, c_uint],
    "cudaFreeHost": [c_void_p],
    "cudaMemsetAsync": [c_void_p, c_int, c_size_t, _HANDLE],
    "cudaMemcpyAsync": [c_void_p, c_void_p, c_size_t, c_int, _HANDLE],
    "cudaMemcpy2DAsync": [
        *[c_void_p, c_size_t, c_void_p, c_size_t],
        *[c_size_t, c_size_t, c_int, _HANDLE],
    ],
    "cudaStreamCreateWithFlags": [_NEW_HANDLE, c_uint],
    "cudaStreamSynchronize": [_HANDLE],
    "cudaStreamDestroy": [_HANDLE],
    "cudaEventCreate": [_NEW_HANDLE],
    "cudaEventRecord": [_HANDLE, _HANDLE],
    "cudaEventSynchronize": [_HANDLE],
    "cudaEventElapsedTime": [POINTER(c_float), _HANDLE, _HANDLE],
    "cudaEventDestroy": [_HANDLE],
    "cudaStreamBeginCapture": [_HANDLE, c_int],
    "cudaStreamEndCapture": [_HANDLE, _NEW_HANDLE],
    "cudaGraphLaunch": [_HANDLE, _HANDLE],
    "cudaGraphDestroy": [_HANDLE],
    "cudaGraphExecDestroy": [_HANDLE],
}
_TEXTS: Dict[str, List[Any]] = {"cudaGetErrorName": [c_int], "cudaGetErrorString": [c_int]}
_INSTANTIATE_WITH_FLAGS = [_NEW_HANDLE, _HANDLE, c_ulonglong]
_INSTANTIATE_BEFORE_12 = [_NEW_HANDLE, _HANDLE, _NEW_HANDLE, c_char_p, c_size_t]

# What the loader may know, oldest last but one: a board has one of them, a workstation several.
_LOADER_NAMES = [
    "libcudart.so",
    "libcudart.so.13",
    "libcudart.so.12",
    "libcudart.so.11.0",
    "libcudart.so.10.2",
    "/usr/local/cuda/lib64/libcudart.so",
]

FULL_HINT = (
    "a bundle built with a smaller --context needs less. On a board, "
    "'sudo systemctl isolate multi-user.target' frees what the desktop holds."
)


class CudartLibrary:
    """The functions of one libcudart, each with its types, each return code checked.

    Args:
        path: Of the library, or a name that the loader knows.

    Attributes:
        path: The same.
        dll: The library itself, for functions that are not libcudart's.

    Raises:
        CudaError: It cannot be loaded, or is not a libcudart.
    """

    def __init__(self, path: str):
        self.path = path
        try:
            self.dll = ctypes.CDLL(path)
        except OSError as error:
            raise CudaError("{} cannot be loaded: {}".format(path, error))
        self._codes = {name: self.function(name, c_int, types) for name, types in _CODES.items()}
        self._texts = {name: self.function(name, c_char_p, types) for name, types in _TEXTS.items()}
        self._instantiate, self._no_options = self._instantiation()

    def function(self, name: str, result: Any, types: List[Any]) -> Any:
        """A function with its types.

        Raises:
            CudaError: The library has none of that name.
        """
        function = getattr(self.dll, name, None)
        if function is None:
            raise CudaError("{} has no function {}.".format(self.path, name), call=name)
        function.restype, function.argtypes = result, types
        return function

    def has(self, name: str) -> bool:
        """Whether the library exports a function."""
        return hasattr(self.dll, name)

    def call(self, name: str, *arguments: Any, **kept: int) -> None:
        """Calls a function and checks its code.

        Args:
            name: Of the function.
            arguments: As its types say.
            kept: ``needed_bytes``, for the message if memory is short.

        Raises:
            DeviceMemoryError: CUDA is out of memory.
            CudaError: Any other code.
        """
        code = self._codes[name](*arguments)
        if code:
            self._fail(name, code, kept.get("needed_bytes", 0))

    def instantiate(self, graph: c_void_p) -> int:
        """Makes a captured graph executable; returns its handle."""
        executable = c_void_p()
        code = self._instantiate(ctypes.byref(executable), graph, *self._no_options)
        if code:
            self._fail("cudaGraphInstantiate", code, 0)
        return int(executable.value or 0)

    def error_text(self, code: int) -> Tuple[str, str]:
        """(name, sentence) of a code, in the library's words."""
        name, text = self._texts["cudaGetErrorName"](code), self._texts["cudaGetErrorString"](code)
        return name.decode("utf-8", "replace"), text.decode("utf-8", "replace")

    def _instantiation(self) -> Tuple[Any, Tuple[Any, ...]]:
        if self.has("cudaGraphInstantiateWithFlags"):
            types = _INSTANTIATE_WITH_FLAGS
            return self.function("cudaGraphInstantiateWithFlags", c_int, types), (0,)
        types = _INSTANTIATE_BEFORE_12
        return self.function("cudaGraphInstantiate", c_int, types), (None, None, 0)

    def _fail(self, name: str, code: int, needed_bytes: int) -> NoReturn:
        # CUDA remembers the last error until someone asks, and the next library in this thread
        # (TensorRT asks after each kernel) would take ours for its own.
        self._codes["cudaGetLastError"]()
        if code == OUT_OF_MEMORY:
            raise DeviceMemoryError(
                "the GPU's memory is full: {} failed.".format(name),
                needed_bytes,
                self._free_bytes(),
                hint=FULL_HINT,
            )
        code_name, text = self.error_text(code)
        message = "{} failed with {} ({}): {}.".format(name, code_name, code, text)
        raise CudaError(message, call=name, code_name=code_name, code=code)

    def _free_bytes(self) -> int:
        free, total = c_size_t(), c_size_t()
        self._codes["cudaMemGetInfo"](ctypes.byref(free), ctypes.byref(total))
        return free.value


def library_paths() -> Iterator[str]:
    """Every libcudart that loads: the loader's, then pip's; or only the one that the user says."""
    if os.environ.get(PATH_VARIABLE):
        yield os.environ[PATH_VARIABLE]
        return
    for path in itertools.chain(_LOADER_NAMES, pip_libraries()):
        if _loads(path):
            yield path


def pip_libraries() -> Iterator[str]:
    """The libcudart of the packages nvidia-cuda-runtime-cu*, wherever Python finds them."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        # nvidia/cuda_runtime/lib up to 12, nvidia/cu13/lib since
        yield from sorted(glob.glob(os.path.join(folder, "*", "lib", "libcudart.so.*")))


def _loads(path: str) -> bool:
    try:
        ctypes.CDLL(path)
    except OSError:
        return False
    return True
