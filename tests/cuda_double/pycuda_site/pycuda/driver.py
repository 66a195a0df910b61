"""A strict double of ``pycuda.driver`` 2020.1, standing on the double of libcudart.

It has the names that merino_edge uses and no others, with the behaviour of the original's C++: a
stack of contexts per thread, objects that remember the context they were made in, memory that is
freed when it is forgotten, clean-up that never raises and silently leaks in a thread without the
context, sides of a copy that must be right. Unlike the driver, libcudart gives a thread without a
context the primary one, so the check for a context is here.

The library is the one that the environment variable CUDART_DOUBLE names.
"""

import copy
import ctypes
import os
import sys
import threading
from ctypes import byref, c_float, c_int, c_size_t, c_void_p

import numpy as np

_dll = ctypes.CDLL(os.environ["CUDART_DOUBLE"])
_dll.cudaGetErrorString.restype = ctypes.c_char_p
_dll.double_range.restype = c_size_t
_dll.double_primary_context.restype = c_void_p
_dll.double_create_context.restype = c_void_p
_local = threading.local()
_initialised = []


class Error(Exception):
    pass


class MemoryError(Error):
    pass


class LogicError(Error):
    pass


class LaunchError(Error):
    pass


class RuntimeError(Error):
    pass


_CLASSES = {2: MemoryError, 719: LaunchError, 100: RuntimeError, 600: RuntimeError}


class host_alloc_flags:
    PORTABLE = 1
    DEVICEMAP = 2
    WRITECOMBINED = 4


class device_attribute:
    INTEGRATED = 18


def _check(driver_name, code):
    if code:
        _dll.cudaGetLastError()  # the driver, which this stands for, has no last error
        text = _dll.cudaGetErrorString(code).decode()
        raise _CLASSES.get(code, LogicError)("{} failed: {}".format(driver_name, text))


def _call(driver_name, name, *arguments):
    if not _initialised:
        raise LogicError(driver_name + " failed: initialization error")
    current = c_void_p()
    _dll.cuCtxGetCurrent(byref(current))
    if not current.value:
        raise LogicError(driver_name + " failed: invalid device context")
    _check(driver_name, getattr(_dll, name)(*arguments))


def init(flags=0):
    count = c_int()
    _check("cuInit", _dll.cudaGetDeviceCount(byref(count)))
    _initialised.append(flags)


def get_version():
    version = c_int()
    _dll.cudaRuntimeGetVersion(byref(version))
    return version.value // 1000, version.value % 1000 // 10, 0


def mem_get_info():
    free, total = c_size_t(), c_size_t()
    _call("cuMemGetInfo", "cudaMemGetInfo", byref(free), byref(total))
    return free.value, total.value


class Device:
    def __init__(self, ordinal):
        if not _initialised:
            raise LogicError("cuDeviceGet failed: initialization error")
        self._ordinal = ordinal
        self.get_attribute(device_attribute.INTEGRATED)

    def name(self):
        properties = ctypes.create_string_buffer(8192)
        _check("cuDeviceGetName", _dll.cudaGetDeviceProperties(properties, self._ordinal))
        return properties.value.decode()

    def compute_capability(self):
        return self.get_attribute(75), self.get_attribute(76)

    def get_attribute(self, attribute):
        value = c_int()
        code = _dll.cudaDeviceGetAttribute(byref(value), attribute, self._ordinal)
        _check("cuDeviceGetAttribute", code)
        return value.value

    def make_context(self, flags=0):
        context = Context(_dll.double_create_context())
        context.push()
        return context

    def retain_primary_context(self):
        return Context(_dll.double_primary_context())


def _stack():
    if not hasattr(_local, "stack"):
        _local.stack = []
        _local.below = []
    return _local.stack


def _top():
    return _stack()[-1] if _stack() else None


def _make_current(context):
    _check("cuCtxSetCurrent", _dll.cuCtxSetCurrent(c_void_p(context)))


class Context:
    """What is current through pycuda, over what was current before pycuda came."""

    def __init__(self, handle):
        self.handle = handle
        self._thread = threading.get_ident()

    def push(self):
        stack = _stack()
        if not stack:
            before = c_void_p()
            _dll.cuCtxGetCurrent(byref(before))
            _local.below.append(before.value)
        _make_current(self.handle)
        stack.append(self)

    @staticmethod
    def pop():
        stack = _stack()
        if not stack:
            raise LogicError("context::pop failed: invalid device context - cannot pop non-current")
        stack.pop()
        _make_current(stack[-1].handle if stack else _local.below.pop())

    @staticmethod
    def get_current():
        return copy.copy(_top())  # the original makes a new object too: equal, not the same

    def __eq__(self, other):
        return isinstance(other, Context) and self.handle == other.handle

    def __hash__(self):
        return hash(self.handle)


class _ContextDependent:
    """Belongs to the context of the thread that makes it."""

    def __init__(self):
        self._context = _top()
        if self._context is None:
            raise LogicError(
                "explicit_context_dependent failed: invalid device context "
                "- no currently active context?"
            )

    def _clean_up(self, driver_name, name, handle):
        """Gives a handle back; like the original, it says on stderr what fails, and no more."""
        switch = _top() is not self._context
        if switch and threading.get_ident() != self._context._thread:
            return  # it leaks, and says nothing
        if switch:
            self._context.push()
        try:
            _call(driver_name, name, c_void_p(handle))
        except Error as error:
            sys.stderr.write("PyCUDA WARNING: a clean-up operation failed\n{}\n".format(error))
        finally:
            if switch:
                Context.pop()


class _Freeable(_ContextDependent):
    _freeing = ("", "")
    _address = None

    def free(self):
        if self._address is None:
            raise LogicError("{}::free failed: invalid resource handle".format(type(self).__name__))
        address, self._address = self._address, None
        self._clean_up(*(self._freeing + (address,)))

    def __del__(self):
        if self._address is not None:
            self.free()


class DeviceAllocation(_Freeable):
    _freeing = ("cuMemFree", "cudaFree")

    def __init__(self, address):
        super().__init__()
        self._address = address

    def __int__(self):
        return self._address

    __index__ = __int__


class PagelockedHostAllocation(_Freeable):
    _freeing = ("cuMemFreeHost", "cudaFreeHost")

    def __init__(self, address, n_bytes):
        super().__init__()
        self._address = address
        self.__array_interface__ = {
            "data": (address, False),
            "shape": (n_bytes,),
            "typestr": "|u1",
            "version": 3,
        }

    def get_device_pointer(self):
        device = c_void_p()
        arguments = (byref(device), c_void_p(self._address), 0)
        _call("cuMemHostGetDevicePointer", "cudaHostGetDevicePointer", *arguments)
        return device.value


def mem_alloc(n_bytes):
    address = c_void_p()
    _call("cuMemAlloc", "cudaMalloc", byref(address), c_size_t(n_bytes))
    return DeviceAllocation(address.value)


def pagelocked_empty(shape, dtype, order="C", mem_flags=0):
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    address = c_void_p()
    _call("cuMemHostAlloc", "cudaHostAlloc", byref(address), c_size_t(n_bytes), mem_flags)
    flat = np.asarray(PagelockedHostAllocation(address.value, n_bytes))
    if np.dtype(dtype) == np.uint8 and flat.shape in (shape, (shape,)):
        return flat
    return flat.view(dtype).reshape(shape, order=order)


def _unsigned(value, bits):
    """As Boost converts an argument: an integer (or an allocation) that fits."""
    number = value.__index__()
    if not 0 <= number < 1 << bits:
        raise OverflowError("can't convert {} to {} unsigned bits".format(number, bits))
    return number


def _device_side(name, address, n_bytes):
    number = _unsigned(address, 64)
    if _dll.double_range(c_void_p(number)) < n_bytes:
        raise LogicError(name + " failed: invalid argument")
    return c_void_p(number)


def _host_side(name, array, writable):
    view = memoryview(array)
    if not view.contiguous or (writable and view.readonly):
        raise TypeError(name + ": a contiguous buffer is needed, writable if it is the target")
    address = np.frombuffer(array, dtype=np.uint8).ctypes.data
    if _dll.double_range(c_void_p(address)):
        raise LogicError(name + " failed: invalid argument")  # this is the device's side
    return c_void_p(address), view.nbytes


def _stream_handle(stream):
    if not isinstance(stream, Stream):
        raise TypeError("stream must be a pycuda.driver.Stream, not {!r}".format(stream))
    return c_void_p(stream.handle)


def memset_d8_async(dest, data, size, stream=None):
    name, value, n_bytes = "cuMemsetD8Async", _unsigned(data, 8), _unsigned(size, 64)
    target, handle = _device_side(name, dest, n_bytes), _stream_handle(stream)
    _call(name, "cudaMemsetAsync", target, value, c_size_t(n_bytes), handle)


def memcpy_dtod_async(dest, src, size, stream=None):
    name, n_bytes = "cuMemcpyDtoDAsync", _unsigned(size, 32)
    target, source = _device_side(name, dest, n_bytes), _device_side(name, src, n_bytes)
    _call(name, "cudaMemcpyAsync", target, source, c_size_t(n_bytes), 4, _stream_handle(stream))


def memcpy_dtoh_async(dest, src, stream=None):
    name = "cuMemcpyDtoHAsync"
    target, n_bytes = _host_side(name, dest, True)
    source = _device_side(name, src, n_bytes)
    _call(name, "cudaMemcpyAsync", target, source, c_size_t(n_bytes), 4, _stream_handle(stream))


def memcpy_htod_async(dest, src, stream=None):
    name = "cuMemcpyHtoDAsync"
    source, n_bytes = _host_side(name, src, False)
    target = _device_side(name, dest, n_bytes)
    _call(name, "cudaMemcpyAsync", target, source, c_size_t(n_bytes), 4, _stream_handle(stream))


class Memcpy2D:
    # The original takes any attribute, and ignores what it does not know; a typo ends here.
    __slots__ = ("_dst", "_src", "dst_pitch", "height", "src_pitch", "width_in_bytes")

    def set_src_device(self, address):
        self._src = c_void_p(_unsigned(address, 64))

    def set_dst_device(self, address):
        self._dst = c_void_p(_unsigned(address, 64))

    def __call__(self, stream):
        arguments = [self._dst, c_size_t(self.dst_pitch), self._src, c_size_t(self.src_pitch)]
        arguments += [c_size_t(self.width_in_bytes), c_size_t(self.height), 3]
        _call("cuMemcpy2DAsync", "cudaMemcpy2DAsync", *(arguments + [_stream_handle(stream)]))


class Stream(_ContextDependent):
    def __init__(self, flags=0):
        super().__init__()
        handle = c_void_p()
        _call("cuStreamCreate", "cudaStreamCreateWithFlags", byref(handle), flags)
        self.handle = handle.value

    def synchronize(self):
        _call("cuStreamSynchronize", "cudaStreamSynchronize", c_void_p(self.handle))

    def __del__(self):
        if hasattr(self, "handle"):
            self._clean_up("cuStreamDestroy", "cudaStreamDestroy", self.handle)


class Event(_ContextDependent):
    def __init__(self, flags=0):
        super().__init__()
        handle = c_void_p()
        _call("cuEventCreate", "cudaEventCreate", byref(handle))
        self._event = handle.value

    def record(self, stream=None):
        event = c_void_p(self._event)
        _call("cuEventRecord", "cudaEventRecord", event, _stream_handle(stream))
        return self

    def synchronize(self):
        _call("cuEventSynchronize", "cudaEventSynchronize", c_void_p(self._event))
        return self

    def time_till(self, other):
        elapsed = c_float()
        events = (c_void_p(self._event), c_void_p(other._event))
        _call("cuEventElapsedTime", "cudaEventElapsedTime", byref(elapsed), *events)
        return elapsed.value

    def __del__(self):
        if hasattr(self, "_event"):
            self._clean_up("cuEventDestroy", "cudaEventDestroy", self._event)
