"""The door through libcudart: graphs, versions, contexts, and what it says when it cannot open."""

import ctypes

import cuda_double
import numpy as np
import pytest

from merino_edge.errors import CudaError, DeviceMemoryError
from merino_edge.runtime.cuda.cudart import Cudart

VERSIONS = [10020, 11000, 11080, 12080, 13000]


@pytest.fixture(scope="module", params=VERSIONS)
def other_machine(request, cudart_double, tmp_path_factory):
    """A double of another version; ``cudart_double`` stands for the compiler that it needs."""
    folder = tmp_path_factory.mktemp("cudart")
    return cuda_double.CudartDouble(cuda_double.build(folder, version=request.param))


def host_bytes(cuda, n_bytes, value):
    buffer = cuda.host_alloc(n_bytes)
    buffer.array[:] = value
    return buffer


def test_a_graph_repeats_copies_and_launches_with_what_the_buffers_hold_then(cudart, machine):
    with cudart.activate():
        stream, address = cudart.create_stream(), cudart.malloc(8)
        ids, out = host_bytes(cudart, 8, 1), host_bytes(cudart, 8, 0)
        seen = []
        cudart.begin_capture(stream)
        cudart.copy_async(address, ids.array.ctypes.data, 8, stream)
        machine.launch(stream, lambda: seen.append(ctypes.string_at(address, 8)))
        cudart.copy_async(out.array.ctypes.data, address, 8, stream)
        graph = cudart.end_capture(stream)
        assert (seen, list(out.array)) == ([], [0] * 8)
        for value in (2, 3):
            ids.array[:] = value
            cudart.launch(graph, stream)
            cudart.synchronize(stream)
            assert list(out.array) == [value] * 8
        assert seen == [bytes([2] * 8), bytes([3] * 8)]
        cudart.destroy_graph(graph)
    assert machine.counters()["graphs_alive"] == 0


def test_what_was_given_before_the_capture_is_no_part_of_it(cudart):
    with cudart.activate():
        stream, address = cudart.create_stream(), cudart.malloc(8)
        out = host_bytes(cudart, 8, 0)
        cudart.memset_async(address, 1, 8, stream)
        cudart.begin_capture(stream)
        cudart.copy_async(out.array.ctypes.data, address, 8, stream)
        graph = cudart.end_capture(stream)
        cudart.memset_async(address, 2, 8, stream)
        cudart.launch(graph, stream)
        cudart.synchronize(stream)
        assert list(out.array) == [2] * 8


@pytest.mark.parametrize("spoil", ["malloc", "synchronize"])
def test_a_spoilt_capture_ends_in_an_error_and_the_stream_goes_on(cudart, machine, spoil):
    with cudart.activate():
        stream, address = cudart.create_stream(), cudart.malloc(8)
        cudart.begin_capture(stream)
        with pytest.raises(CudaError, match="cudaErrorStreamCaptureUnsupported"):
            getattr(cudart, spoil)(64 if spoil == "malloc" else stream)
        with pytest.raises(CudaError) as caught:
            cudart.end_capture(stream)
        assert caught.value.code_name == "cudaErrorStreamCaptureInvalidated"
        out = host_bytes(cudart, 8, 0)
        cudart.memset_async(address, 4, 8, stream)
        cudart.copy_async(out.array.ctypes.data, address, 8, stream)
        cudart.synchronize(stream)
    assert list(out.array) == [4] * 8
    assert machine.counters()["graphs_alive"] == 0


def test_a_graph_over_freed_memory_fails_where_it_is_waited_for(cudart):
    with cudart.activate():
        stream, address = cudart.create_stream(), cudart.malloc(8)
        cudart.begin_capture(stream)
        cudart.memset_async(address, 0, 8, stream)
        graph = cudart.end_capture(stream)
        cudart.free(address)
        cudart.launch(graph, stream)
        with pytest.raises(CudaError, match="cudaStreamSynchronize"):
            cudart.synchronize(stream)


def test_a_graph_that_cannot_be_made_leaves_nothing_behind(cudart, machine):
    with cudart.activate():
        stream = cudart.create_stream()
        cudart.begin_capture(stream)
        machine.fail_next("cudaGraphInstantiate", 2)
        with pytest.raises(DeviceMemoryError):
            cudart.end_capture(stream)
    assert machine.counters()["graphs_alive"] == 0


def test_graphs_are_made_with_the_form_of_each_version(other_machine):
    cuda = Cudart(other_machine.path)
    with cuda.activate():
        stream, address = cuda.create_stream(), cuda.malloc(8)
        cuda.begin_capture(stream)
        cuda.memset_async(address, 6, 8, stream)
        graph = cuda.end_capture(stream)
        cuda.launch(graph, stream)
        cuda.synchronize(stream)
        assert ctypes.string_at(address, 8) == bytes([6] * 8)
    cuda.close()
    assert other_machine.counters()["graphs_alive"] == 0


def test_the_version_is_said_as_people_say_it(other_machine):
    version = int(other_machine.path.rsplit("_", 1)[1].split(".")[0])
    cuda = Cudart(other_machine.path)
    assert cuda.runtime_version == {10020: "10.2", 11000: "11.0", 11080: "11.8"}.get(
        version, {12080: "12.8", 13000: "13.0"}.get(version)
    )
    assert cuda.name == "cudart " + cuda.runtime_version
    cuda.close()


def test_without_the_driver_the_device_is_chosen_all_the_same(cudart_double, tmp_path):
    alone = cuda_double.CudartDouble(cuda_double.build(tmp_path, with_driver=False))
    assert not hasattr(alone.library, "cuCtxGetCurrent")
    cuda = Cudart(alone.path)
    with cuda.activate():
        cuda.free(cuda.malloc(64))
    cuda.close()
    assert alone.counters()["allocations"] == 1


def test_opening_does_not_disturb_the_context_of_the_application(machine):
    own = machine.library.double_create_context()
    current = ctypes.c_void_p()
    assert machine.library.cuCtxSetCurrent(ctypes.c_void_p(own)) == 0
    try:
        cuda = Cudart(machine.path)
        machine.library.cuCtxGetCurrent(ctypes.byref(current))
        assert current.value == own
        with cuda.activate():
            machine.library.cuCtxGetCurrent(ctypes.byref(current))
            assert current.value == machine.library.double_primary_context()
        cuda.close()
    finally:
        machine.library.cuCtxSetCurrent(None)


@pytest.mark.parametrize(
    ("code", "name", "hint"),
    [
        (100, "cudaErrorNoDevice", "--runtime nvidia"),
        (35, "cudaErrorInsufficientDriver", "MERINO_EDGE_CUDART"),
    ],
)
def test_no_device_is_told_once_with_a_way_out(machine, code, name, hint):
    machine.fail_next("cudaGetDeviceCount", code)
    with pytest.raises(CudaError, match="no GPU can be used") as caught:
        Cudart(machine.path)
    assert caught.value.code_name == name
    assert machine.path in caught.value.note
    assert hint in caught.value.hint


def test_a_library_that_is_not_libcudart_is_named():
    with pytest.raises(CudaError, match=r"libc\.so\.6 has no function cudaRuntimeGetVersion"):
        Cudart("libc.so.6")


def test_a_library_that_does_not_load_is_named(tmp_path):
    broken = tmp_path / "libcudart.so"
    broken.write_bytes(b"not a library")
    with pytest.raises(CudaError, match="cannot be loaded"):
        Cudart(str(broken))


def test_addresses_keep_all_their_bits(cudart):
    with cudart.activate():
        address, buffer = cudart.malloc(64), cudart.host_alloc(64)
        handles = [cudart.create_stream(), address, buffer.array.ctypes.data, buffer.device_address]
    assert min(handles) > np.iinfo(np.uint32).max
