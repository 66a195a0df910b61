"""A strict libcudart made of host memory: built with the C compiler, driven from Python.

``cudart_double.c`` says what it stands for and what it does not prove. Here is how a test holds
it: ``build`` compiles it, ``CudartDouble`` has its controls and its counts. Python 3.6, like the
runtime that it tests. One library has one state, whoever opens it; ``reset()`` makes it new.
"""

import ctypes
import os
import subprocess

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cudart_double.c")
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-O1"]

# The order is the one of enum Counter in the C file.
ALIVE = (
    "device_alive",
    "host_alive",
    "streams_alive",
    "events_alive",
    "graphs_alive",
    "bytes_alive",
)
COUNTS = (
    "allocations",
    "copies",
    "copied_bytes",
    "copies_2d",
    "copied_2d_bytes",
    "largest_copy",
    "bytes_to_host",
    "bytes_to_device",
    "memsets",
    "synchronisations",
    "launches",
    "graph_launches",
    "captures",
    "overruns",
)
COUNTERS = ALIVE + COUNTS

_KERNEL = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_PROTOTYPES = {
    "double_launch": (ctypes.c_int, [ctypes.c_void_p, _KERNEL, ctypes.c_void_p]),
    "double_range": (ctypes.c_size_t, [ctypes.c_void_p]),
    "double_is_capturing": (ctypes.c_int, [ctypes.c_void_p]),
    "double_counters": (ctypes.c_int, [ctypes.POINTER(ctypes.c_uint64), ctypes.c_int]),
    "double_reset_counters": (None, []),
    "double_reset": (None, []),
    "double_fail": (None, [ctypes.c_char_p, ctypes.c_int, ctypes.c_int]),
    "double_cap": (None, [ctypes.c_uint64]),
    "double_create_context": (ctypes.c_void_p, []),
    "double_primary_context": (ctypes.c_void_p, []),
}


def build(folder, version=10020, with_driver=True, compiler="cc"):
    """Compiles the double; version as cudaRuntimeGetVersion says it (10020 is CUDA 10.2).

    Returns:
        The path of the library.
    """
    flags = ["-DDOUBLE_CUDART_VERSION={}".format(version)]
    flags += [] if with_driver else ["-DDOUBLE_WITHOUT_DRIVER"]
    name = "libcudart_double_{}{}.so".format(version, "" if with_driver else "_no_driver")
    path = os.path.join(str(folder), name)
    subprocess.check_call([compiler] + FLAGS + flags + [SOURCE, "-o", path])
    return path


class CudartDouble:
    """The controls of one built library.

    Attributes:
        path: Of the library; give it to the door with MERINO_EDGE_CUDART.
        library: The same, opened with ctypes; only the ``double_`` functions have prototypes.
    """

    def __init__(self, path):
        self.path = str(path)
        self.library = ctypes.CDLL(self.path)
        for name, (result, arguments) in _PROTOTYPES.items():
            getattr(self.library, name).restype = result
            getattr(self.library, name).argtypes = arguments
        self._kernels = []
        self._raised = None

    def counters(self):
        """Name -> count of everything in COUNTERS, right now."""
        values = (ctypes.c_uint64 * len(COUNTERS))()
        known = self.library.double_counters(values, len(COUNTERS))
        assert known == len(COUNTERS), "the C file counts {} things".format(known)
        return dict(zip(COUNTERS, values))

    def reset_counters(self):
        """COUNTS begin at 0 again; what is alive stays alive."""
        self.library.double_reset_counters()

    def reset(self):
        """A new machine: nothing is alive, nothing is counted, nothing is planned to fail."""
        self.library.double_reset()
        del self._kernels[:]
        self._raised = None

    def launch(self, stream, kernel):
        """Runs kernel() in a stream: now, or at each replay if the stream is being captured.

        What it raises is raised here when it runs now. In a replay it makes the synchronisation
        fail with code 719, and ``raise_kernel_error`` tells.

        Returns:
            The code of the call: 0, or what the driver would say.
        """
        callback = _KERNEL(lambda _: self._run(kernel))
        if self.is_capturing(stream):
            self._kernels.append(callback)  # it must live as long as the graph may
        code = self.library.double_launch(stream, callback, None)
        self.raise_kernel_error()
        return code

    def _run(self, kernel):
        try:
            kernel()
        except Exception as error:
            self._raised = error
            return 1
        return 0

    def raise_kernel_error(self):
        """Raises what the last kernel that failed has raised, once."""
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def is_capturing(self, stream):
        """Whether launches into this stream are recorded now."""
        return bool(self.library.double_is_capturing(stream))

    def bytes_left(self, address):
        """Bytes from a device address to the end of its allocation; 0 if the device has none."""
        return self.library.double_range(address)

    def fail_next(self, function, code, nth=1):
        """The nth call of a function from now on fails with a code; one plan at a time."""
        self.library.double_fail(function.encode("ascii"), code, nth)

    def cap_memory(self, n_bytes):
        """The device has this much memory from now on."""
        self.library.double_cap(n_bytes)
