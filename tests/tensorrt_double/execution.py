"""The kernels: ONNX Runtime on raw addresses.

The one idea: an address, a type and a shape are all the engine believes, as a GPU would. Bytes
are read from where the caller pointed and written where the caller pointed, so a wrong offset,
type or a missing copy gives wrong numbers. One ONNX Runtime session serves all engines over one
file (and one choice of rounded layers).
"""

import ctypes
import threading

import numpy as np
import onnxruntime

from .dtypes import ONNX_TO_NUMPY, numpy_type
from .rounding import rounded_model

THREADS = 2
_sessions = {}
_lock = threading.Lock()


class Program:
    """What an engine runs.

    Args:
        source: The OnnxSource.
        facts: Of the plan: inputs, outputs, left_to_builder.
    """

    def __init__(self, source, facts):
        self.inputs = facts["inputs"]
        self.outputs = facts["outputs"]
        self._session = _session(source, tuple(facts["left_to_builder"]))

    def run(self, addresses, shapes, spoil=False):
        """Read inputs, compute, write outputs.

        Args:
            addresses: Name -> address.
            shapes: Name -> shape, of inputs and of outputs that are known.
            spoil: Give other numbers.

        Raises:
            RuntimeError: ONNX Runtime refuses, or an output has another shape than was promised.
        """
        feeds = {}
        for each in self.inputs:
            view = view_at(addresses[each["name"]], shapes[each["name"]], each["dtype"])
            feeds[each["name"]] = view.astype(ONNX_TO_NUMPY[each["onnx_type"]], copy=False)
        names = [each["name"] for each in self.outputs]
        for each, found in zip(self.outputs, self._session.run(names, feeds)):
            shape = shapes[each["name"]]
            if tuple(found.shape) != tuple(shape):
                raise RuntimeError(f"{each['name']}: {found.shape} computed, {shape} promised")
            if spoil:
                found = np.roll(found, 1, axis=-1) + np.ones((), found.dtype)
            np.copyto(
                view_at(addresses[each["name"]], shape, each["dtype"]), found, casting="unsafe"
            )


def n_bytes(shape, dtype_name):
    """Bytes of a tensor."""
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(numpy_type(dtype_name)).itemsize


def view_at(address, shape, dtype_name):
    """A numpy array over memory that somebody else owns."""
    raw = (ctypes.c_ubyte * n_bytes(shape, dtype_name)).from_address(address)
    return np.frombuffer(raw, dtype=numpy_type(dtype_name)).reshape(shape)


def _session(source, left):
    key = (source.sha256, source.folder, left)
    with _lock:
        if key not in _sessions:
            _sessions[key] = _open_session(source, left)
        return _sessions[key]


def _open_session(source, left):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    model = source.path if source.data is None else source.data
    if left:
        model = rounded_model(source.read(), source.folder, left)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
