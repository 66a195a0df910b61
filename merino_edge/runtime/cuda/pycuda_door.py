"""The door to CUDA through the package pycuda, 2020.1 and later; the only importer of it.

The one idea: pycuda's objects own what they name and free it when they are forgotten, so the
register of the base class keeps them and everyone outside holds integers. pycuda has no CUDA
graphs. It works in the device's primary context, the one that TensorRT uses; ``pycuda.autoinit``
would make another.

pycuda keeps a stack of contexts per thread, and ends the process if a thread dies with a context
on it: so each ``activate`` takes off what it put on, whatever happens. The primary context itself
stays for the life of the process: to give it back (pycuda's ``detach``) would leave it current in
the thread, dead.
"""

# ruff: noqa: D102 (what the methods promise stands in api.Cuda)

import contextlib
import itertools
from typing import Any, Callable, Dict, Iterator, NoReturn, Tuple

from merino_edge.errors import (
    CudaError,
    DeviceMemoryError,
    MissingDependencyError,
    UnsupportedError,
)
from merino_edge.runtime.cuda.api import (
    EVENT,
    HOST,
    MEMORY,
    STREAM,
    Cuda,
    HostBuffer,
    check_positive,
)
from merino_edge.runtime.cuda.cudart_library import FULL_HINT

DEVICE = 0
_NON_BLOCKING = 1
_primary: Dict[Any, Any] = {}  # by the module that made it


class PyCuda(Cuda):
    """CUDA through pycuda.

    Raises:
        MissingDependencyError: pycuda is not installed.
        CudaError: It cannot work here: no driver, no device, or too old.
    """

    def __init__(self) -> None:
        super().__init__()
        pycuda, self._driver = _pycuda()
        self.name = "pycuda " + pycuda.VERSION_TEXT
        self._call(self._driver.init)
        device = self._call(self._driver.Device, DEVICE)
        self.device_name = device.name()
        self.compute_capability = tuple(device.compute_capability())
        self.integrated = bool(device.get_attribute(self._driver.device_attribute.INTEGRATED))
        self.runtime_version = "{}.{}".format(*self._driver.get_version()[:2])
        self._context = self._primary_context(device)
        self._event_numbers = itertools.count(1)

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        self._check_open()
        self._call(self._context.push)
        try:
            yield
        finally:
            self._call(self._driver.Context.pop)

    def memory(self) -> Tuple[int, int]:
        free, total = self._call(self._driver.mem_get_info)
        return int(free), int(total)

    def malloc(self, n_bytes: int) -> int:
        check_positive(n_bytes)
        allocation = self._allocate(n_bytes, self._driver.mem_alloc, n_bytes)
        return self._take(MEMORY, int(allocation), self._freeing(allocation), allocation)

    def host_alloc(self, n_bytes: int) -> HostBuffer:
        check_positive(n_bytes)
        flags = self._driver.host_alloc_flags.DEVICEMAP
        array = self._allocate(
            n_bytes, self._driver.pagelocked_empty, n_bytes, "uint8", mem_flags=flags
        )
        self._take(HOST, array.ctypes.data, self._freeing(array.base), array)
        return HostBuffer(array, int(self._call(array.base.get_device_pointer)))

    def memset_async(self, address: int, value: int, n_bytes: int, stream: int) -> None:
        self._call(self._driver.memset_d8_async, address, value, n_bytes, self._stream(stream))

    def copy_async(self, dst: int, src: int, n_bytes: int, stream: int) -> None:
        host_dst, host_src = self._on_host(dst, n_bytes), self._on_host(src, n_bytes)
        owner = self._stream(stream)
        if host_dst is not None and host_src is not None:
            raise CudaError("copy_async was asked to copy from host memory to host memory.")
        if host_dst is not None:
            self._call(self._driver.memcpy_dtoh_async, host_dst, src, owner)
        elif host_src is not None:
            self._call(self._driver.memcpy_htod_async, dst, host_src, owner)
        else:
            self._call(self._driver.memcpy_dtod_async, dst, src, n_bytes, owner)

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
        copy = self._driver.Memcpy2D()
        copy.set_dst_device(dst)
        copy.dst_pitch = dst_pitch
        copy.set_src_device(src)
        copy.src_pitch = src_pitch
        copy.width_in_bytes, copy.height = width_bytes, height
        self._call(copy, self._stream(stream))

    def create_stream(self) -> int:
        stream = self._call(self._driver.Stream, _NON_BLOCKING)
        return self._take(STREAM, int(stream.handle), _forget, stream)

    def synchronize(self, stream: int) -> None:
        self._call(self._stream(stream).synchronize)

    def create_event(self) -> int:
        event = self._call(self._driver.Event)
        return self._take(EVENT, next(self._event_numbers), _forget, event)

    def record(self, event: int, stream: int) -> None:
        self._call(self._find(EVENT, event).record, self._stream(stream))

    def elapsed_ms(self, start: int, end: int) -> float:
        first, last = self._find(EVENT, start), self._find(EVENT, end)
        self._call(last.synchronize)
        return float(self._call(first.time_till, last))

    def begin_capture(self, stream: int) -> None:
        self._no_graphs()

    def end_capture(self, stream: int) -> int:
        self._no_graphs()

    def launch(self, graph: int, stream: int) -> None:
        self._no_graphs()

    def _no_graphs(self) -> NoReturn:
        raise UnsupportedError(
            "{} has no CUDA graphs.".format(self.name), hint="libcudart has them: see open_cuda."
        )

    def _stream(self, handle: int) -> Any:
        return self._find(STREAM, handle)

    def _on_host(self, address: int, n_bytes: int) -> Any:
        """The bytes of a host buffer that begin at an address; None if it is not of one."""
        for (kind, begin), alive in self._alive.items():
            if kind == HOST and begin <= address < begin + alive.owner.size:
                return alive.owner[address - begin : address - begin + n_bytes]
        return None

    def _freeing(self, allocation: Any) -> Callable[[], Any]:
        return lambda: self._call(allocation.free)

    def _allocate(self, needed_bytes: int, function: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except self._driver.MemoryError as error:
            raise DeviceMemoryError(
                "the GPU's memory is full: {}.".format(error),
                needed_bytes,
                self.memory()[0],
                hint=FULL_HINT,
            )
        except self._driver.Error as error:
            raise _cuda_error(error)

    def _call(self, function: Any, *arguments: Any) -> Any:
        """Calls pycuda; its errors become ours."""
        return self._allocate(0, function, *arguments)

    def _primary_context(self, device: Any) -> Any:
        if not hasattr(device, "retain_primary_context"):
            raise CudaError(
                "{} cannot use the device's primary context.".format(self.name),
                hint="pip install pycuda==2020.1, or newer.",
            )
        if self._driver not in _primary:
            _primary[self._driver] = self._call(device.retain_primary_context)
        return _primary[self._driver]


def _forget() -> None:
    """Streams and events have no call to end them: pycuda ends them when the last name is gone."""


def _cuda_error(error: Exception) -> CudaError:
    # pycuda's words are "cuMemcpyDtoHAsync failed: invalid argument".
    call = str(error).split(" failed", 1)[0]
    return CudaError("{}.".format(error), call=call)


def _pycuda() -> Tuple[Any, Any]:
    try:
        import pycuda
    except ImportError:
        raise MissingDependencyError(
            "pycuda",
            "the door 'pycuda' to the GPU",
            "'pip install pycuda==2020.1' compiles it; the door 'cudart' needs no compiler.",
        )
    try:
        import pycuda.driver
    except ImportError as error:
        raise CudaError(
            "pycuda {} cannot be used: {}.".format(pycuda.VERSION_TEXT, error),
            hint="it needs the driver's libcuda.so.1: a GPU, or '--runtime nvidia' in a container.",
        )
    return pycuda, pycuda.driver
