"""What the runtime wants of CUDA: some twenty calls, and an account of everything that is alive.

The one idea: addresses, streams, events and graphs are plain integers outside, and each has one
entry in a register, with what it takes to give it back. So ``close`` frees whatever is left, and
giving back twice, or what was never taken, is an error of ours and not a crash in the driver.

All calls need the device's context in the calling thread: wrap them in ``with cuda.activate():``.
Copies and memsets are asynchronous; ``synchronize`` is the only place that waits. This module knows
no library: ``cudart`` and ``pycuda_door`` do.
"""

import abc
from typing import Any, Callable, ContextManager, Dict, NamedTuple, Tuple

import numpy as np

from merino_edge.errors import CudaError, MerinoError

MEMORY, HOST, STREAM, EVENT, GRAPH = "device memory", "host memory", "stream", "event", "graph"


class HostBuffer(NamedTuple):
    """Pinned host memory that the device sees too.

    Attributes:
        array: (n_bytes,) uint8, the host's view; it must not be touched after ``free_host``.
        device_address: Where the device sees the same bytes.
    """

    array: np.ndarray
    device_address: int


class _Alive(NamedTuple):
    owner: Any  # what the door needs to use it: an object of its library, or nothing
    give_back: Callable[[], Any]


class Cuda(abc.ABC):
    """One GPU, through one library.

    Attributes:
        name: The library and its version, "cudart 10.2".
        device_name: As the driver calls the GPU.
        compute_capability: (5, 3) for a Jetson Nano.
        runtime_version: Of CUDA, "10.2".
        can_capture: Whether work can be captured into graphs.
        integrated: Whether GPU and CPU share one memory.
    """

    name: str
    device_name: str
    compute_capability: Tuple[int, int]
    runtime_version: str
    can_capture = False
    integrated: bool

    def __init__(self) -> None:
        self._alive: Dict[Tuple[str, int], _Alive] = {}
        self._closed = False

    @abc.abstractmethod
    def activate(self) -> ContextManager[None]:
        """Makes the device's context current in this thread for a ``with`` block.

        Whatever was current before is current again afterwards, so that an application with a
        context of its own is not disturbed. Blocks may be nested.
        """

    @abc.abstractmethod
    def memory(self) -> Tuple[int, int]:
        """(free, total) bytes of device memory; on a Jetson, of the memory that all share."""

    @abc.abstractmethod
    def malloc(self, n_bytes: int) -> int:
        """Device memory with unknown content; returns its address.

        Raises:
            CudaError: n_bytes is not positive: an empty tensor needs no allocation.
            DeviceMemoryError: There is not enough.
        """

    @abc.abstractmethod
    def host_alloc(self, n_bytes: int) -> HostBuffer:
        """Pinned, mapped host memory with unknown content.

        On a Jetson before Xavier neither side caches it: for a few bytes, written and read once.

        Raises:
            CudaError: n_bytes is not positive.
            DeviceMemoryError: There is not enough.
        """

    @abc.abstractmethod
    def memset_async(self, address: int, value: int, n_bytes: int, stream: int) -> None:
        """Sets each of n_bytes of device memory to value, 0..255."""

    @abc.abstractmethod
    def copy_async(self, dst: int, src: int, n_bytes: int, stream: int) -> None:
        """Copies between device memory and memory of ``host_alloc``; the door knows the sides."""

    @abc.abstractmethod
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
        """Copies ``height`` rows of ``width_bytes``, device to device.

        Row r goes from src + r * src_pitch to dst + r * dst_pitch; pitches are in bytes and not
        smaller than width_bytes.
        """

    @abc.abstractmethod
    def create_stream(self) -> int:
        """A stream that does not wait for the default one; returns its handle."""

    @abc.abstractmethod
    def synchronize(self, stream: int) -> None:
        """Waits until everything given to a stream is done; failures of the work show here."""

    @abc.abstractmethod
    def create_event(self) -> int:
        """A point in time, not yet recorded."""

    @abc.abstractmethod
    def record(self, event: int, stream: int) -> None:
        """The event happens when what the stream holds so far is done."""

    @abc.abstractmethod
    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds of the GPU between two recorded events; waits for the later one."""

    @abc.abstractmethod
    def begin_capture(self, stream: int) -> None:
        """From now on, work given to the stream by this thread is recorded and not done.

        Raises:
            UnsupportedError: This door has no graphs (``can_capture`` is False).
        """

    @abc.abstractmethod
    def end_capture(self, stream: int) -> int:
        """Ends the recording, made well or not; returns the graph, ready to be launched.

        Raises:
            CudaError: Something in between cannot be captured; the stream works as before.
        """

    @abc.abstractmethod
    def launch(self, graph: int, stream: int) -> None:
        """Does what was captured, at the addresses that were captured."""

    def free(self, address: int) -> None:
        """Gives device memory back; waits for the device."""
        self._give_back(MEMORY, address)

    def free_host(self, buffer: HostBuffer) -> None:
        """Gives host memory back; its array must not be touched any more."""
        self._give_back(HOST, buffer.array.ctypes.data)

    def destroy_stream(self, stream: int) -> None:
        """Gives a stream back."""
        self._give_back(STREAM, stream)

    def destroy_event(self, event: int) -> None:
        """Gives an event back."""
        self._give_back(EVENT, event)

    def destroy_graph(self, graph: int) -> None:
        """Gives a graph back."""
        self._give_back(GRAPH, graph)

    def close(self) -> None:
        """Gives back whatever is alive, the latest first; a second close does nothing.

        One failure does not keep the rest alive: the first one is raised when all is done.
        """
        if self._closed:
            return
        failures = []
        with self.activate():
            for kind, handle in reversed(list(self._alive)):
                try:
                    self._give_back(kind, handle)
                except MerinoError as failure:
                    failures.append(failure)
        self._closed = True
        if failures:
            raise failures[0]

    def _take(self, kind: str, handle: int, give_back: Callable[[], Any], owner: Any = None) -> int:
        self._alive[(kind, handle)] = _Alive(owner, give_back)
        return handle

    def _give_back(self, kind: str, handle: int) -> None:
        self._find(kind, handle)
        self._alive.pop((kind, handle)).give_back()

    def _find(self, kind: str, handle: int) -> Any:
        """The owner behind a handle."""
        alive = self._alive.get((kind, handle))
        if alive is None:
            raise CudaError(
                "there is no {} {:#x}: it was given back before, or never taken here.".format(
                    kind, handle
                )
            )
        return alive.owner

    def _check_open(self) -> None:
        if self._closed:
            raise CudaError("{} is closed.".format(self.name))


def check_positive(n_bytes: int) -> None:
    """Libraries disagree about empty allocations (a null address, an error), so there are none.

    Raises:
        CudaError: n_bytes is not positive.
    """
    if n_bytes <= 0:
        raise CudaError("an allocation of {} bytes was asked for; 1 is the least.".format(n_bytes))
