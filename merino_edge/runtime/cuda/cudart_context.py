"""Which context is current in a thread: saved, changed and put back with two calls of the driver.

libcudart works in the context that is current in the calling thread, whoever made it. An
application that uses pycuda has one of its own there, so the primary context is made and entered
deliberately, and left again. libcudart has no call for that; the driver's library, libcuda, has.
"""

import contextlib
import ctypes
from ctypes import POINTER, c_int, c_void_p
from typing import Iterator, Optional, Union

from merino_edge.errors import CudaError
from merino_edge.runtime.cuda.cudart_library import CudartLibrary

_DRIVER = "libcuda.so.1"
_PRIMARY_DEVICE = 0


class DriverContext:
    """The primary context, entered through the driver.

    Args:
        library: To make the context with.
        driver: Where cuCtxGetCurrent and cuCtxSetCurrent are.
    """

    def __init__(self, library: CudartLibrary, driver: ctypes.CDLL):
        self._get, self._put = driver.cuCtxGetCurrent, driver.cuCtxSetCurrent
        self._get.argtypes, self._put.argtypes = [POINTER(c_void_p)], [c_void_p]
        self._get.restype = self._put.restype = c_int
        before = self._current()
        self._make_current(None)  # else the runtime would work in the application's context
        try:
            library.call("cudaSetDevice", _PRIMARY_DEVICE)
            library.call("cudaFree", None)  # before CUDA 12 the first real call makes the context
            self._primary = self._current()
        finally:
            self._make_current(before)

    @contextlib.contextmanager
    def activated(self) -> Iterator[None]:
        """The primary context is current in the block, and what was before is so after it."""
        before = self._current()
        if before == self._primary:
            yield
            return
        self._make_current(self._primary)
        try:
            yield
        finally:
            self._make_current(before)

    def _current(self) -> Optional[int]:
        context = c_void_p()
        _check("cuCtxGetCurrent", self._get(ctypes.byref(context)))
        return context.value

    def _make_current(self, context: Optional[int]) -> None:
        _check("cuCtxSetCurrent", self._put(context))


class RuntimeContext:
    """Without the driver's calls: the device is chosen, and whatever was before is lost."""

    def __init__(self, library: CudartLibrary):
        self._library = library

    @contextlib.contextmanager
    def activated(self) -> Iterator[None]:
        """The primary context is current in the block and after it."""
        self._library.call("cudaSetDevice", _PRIMARY_DEVICE)
        yield


def open_context(library: CudartLibrary) -> Union[DriverContext, RuntimeContext]:
    """Makes the primary context, and finds the way to enter it.

    The calls are looked for in the library itself first. The original exports none, but one that
    stands in for it (a test's double) has its own idea of contexts, and asking a real driver
    beside it would answer for another device.
    """
    if library.has("cuCtxGetCurrent"):
        return DriverContext(library, library.dll)
    try:
        return DriverContext(library, ctypes.CDLL(_DRIVER))
    except OSError:
        return RuntimeContext(library)


def _check(call: str, code: int) -> None:
    if code:
        raise CudaError("{} failed with code {}.".format(call, code), call=call, code=code)
