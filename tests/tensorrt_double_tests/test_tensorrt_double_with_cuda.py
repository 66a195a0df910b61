"""The doubles of TensorRT and of CUDA together: ranges are checked, captures recorded."""

import ctypes
import os
import subprocess
import sys

import pytest
from tensorrt_double import VERSIONS, make
from test_tensorrt_double_context import NAMES, Run, check
from tiny_networks import tiny_inputs


class Device:
    """A few CUDA calls, as a runtime makes them."""

    def __init__(self, cuda):
        self._library = cuda.library

    def call(self, function, *arguments):
        code = getattr(self._library, function)(*arguments)
        assert code == 0, f"{function}: {code}"

    def malloc(self, n_bytes):
        address = ctypes.c_void_p()
        self.call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(n_bytes))
        return address.value

    def stream(self):
        handle = ctypes.c_void_p()
        self.call("cudaStreamCreateWithFlags", ctypes.byref(handle), 1)
        return handle.value

    def captured(self, stream, work):
        self.call("cudaStreamBeginCapture", ctypes.c_void_p(stream), 0)
        taken, graph, executable = work(), ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cudaStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        self.call("cudaGraphInstantiate", ctypes.byref(executable), graph, None, None, 0)
        return taken, executable

    def replay(self, executable, stream):
        self.call("cudaGraphLaunch", executable, ctypes.c_void_p(stream))
        return self._library.cudaStreamSynchronize(ctypes.c_void_p(stream))


@pytest.fixture
def device(cuda):
    return Device(cuda)


@pytest.fixture(params=VERSIONS)
def run(request, cuda, device, tmp_path):
    return Run(make(request.param, cuda), tmp_path, malloc=device.malloc)


def test_memory_of_the_device_is_read_and_written(run, device):
    inputs = tiny_inputs(3, 5)
    run.write(inputs)
    run.set_shapes(inputs)
    assert run.enqueue(device.stream()), run.logger.lines
    check(run, inputs)


def test_an_address_that_is_no_allocation_is_refused(run, device):
    run.set_shapes(tiny_inputs(3, 5))
    run.addresses["past"] = 1 << 20
    assert not run.enqueue(device.stream())
    assert "past: 40 bytes are needed" in run.logger.errors()[-1]


def test_a_range_past_the_end_of_an_allocation_is_refused(run, device):
    run.set_shapes(tiny_inputs(8, 16))
    run.addresses["squares"] = device.malloc(8 * 4 * 2 - 1)
    assert not run.enqueue(device.stream())
    assert "64 bytes are needed" in run.logger.errors()[-1]


def test_a_capture_records_and_a_replay_runs_on_what_lies_there_then(run, device):
    stream, first, second = device.stream(), tiny_inputs(3, 5), tiny_inputs(2, 5)
    run.write(second)
    run.set_shapes(second)
    assert run.enqueue(stream)
    taken, graph = device.captured(stream, lambda: run.enqueue(stream))
    assert taken
    second["past"] = second["past"] + 1
    run.write(second)
    with pytest.raises(AssertionError):
        check(run, second)
    assert device.replay(graph, stream) == 0
    check(run, second)
    assert first["x"].shape != second["x"].shape


def test_the_first_enqueue_after_a_change_of_shape_cannot_be_captured(run, device):
    stream, inputs = device.stream(), tiny_inputs(3, 5)
    run.write(inputs)
    run.set_shapes(inputs)
    taken, _ = device.captured(stream, lambda: run.enqueue(stream))
    assert not taken
    assert "capturing" in run.logger.errors()[-1]
    assert run.enqueue(stream)
    assert run.set_shapes(inputs)  # the same again changes nothing
    taken, _ = device.captured(stream, lambda: run.enqueue(stream))
    assert taken


def test_a_replay_over_freed_memory_is_an_error_of_the_device(run, device, cuda):
    stream, inputs = device.stream(), tiny_inputs(3, 5)
    run.write(inputs)
    run.set_shapes(inputs)
    assert run.enqueue(stream)
    _, graph = device.captured(stream, lambda: run.enqueue(stream))
    device.call("cudaFree", ctypes.c_void_p(run.addresses["past"]))
    device._library.cudaGraphLaunch(graph, ctypes.c_void_p(stream))
    assert device._library.cudaStreamSynchronize(ctypes.c_void_p(stream)) != 0
    with pytest.raises(RuntimeError, match="past"):
        cuda.raise_kernel_error()


CHILD = """
import tensorrt as trt
print(trt.__version__, trt._faults.due("build"), hasattr(trt.ICudaEngine, "num_io_tensors"))
print(trt.Builder(trt.Logger()).platform_has_tf32, len({names!r}))
"""


def test_a_child_process_imports_a_double_by_the_environment(cudart_path):
    here = os.path.dirname(os.path.abspath(__file__))
    site = os.path.join(here, "..", "tensorrt_double", "site")
    environment = dict(
        os.environ,
        PYTHONPATH=site,
        TENSORRT_DOUBLE_VERSION="8.6.1",
        TENSORRT_DOUBLE_CUDART=cudart_path,
        TENSORRT_DOUBLE_CAPABILITY="8.7",
        TENSORRT_DOUBLE_FAULTS='{"build": {"message": "planted"}}',
    )
    command = [sys.executable, "-c", CHILD.format(names=NAMES)]
    out = subprocess.check_output(command, env=environment, universal_newlines=True)
    assert out.split() == ["8.6.1.6", "planted", "True", "True", "5"]
