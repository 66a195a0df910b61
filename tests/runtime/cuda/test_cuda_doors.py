"""What both doors to CUDA promise, over the strict double of libcudart."""

import ctypes
import threading

import numpy as np
import pytest

from merino_edge.errors import CudaError, DeviceMemoryError


def download(cuda, address, n_bytes, stream):
    """Bytes of device memory, by way of a host buffer."""
    buffer = cuda.host_alloc(n_bytes)
    cuda.copy_async(buffer.array.ctypes.data, address, n_bytes, stream)
    cuda.synchronize(stream)
    data = buffer.array.copy()
    cuda.free_host(buffer)
    return data


def in_thread(function):
    """Runs a function in a new thread; gives what it returned, or raises what it raised."""
    outcome = []

    def run():
        try:
            outcome.append((function(), None))
        except Exception as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def current_context(machine):
    """The context of this thread, as the driver says."""
    context = ctypes.c_void_p()
    machine.library.cuCtxGetCurrent(ctypes.byref(context))
    return context.value


def make_current(machine, context):
    assert machine.library.cuCtxSetCurrent(ctypes.c_void_p(context)) == 0


def test_a_door_says_what_it_opened(cuda):
    assert cuda.name.split()[0] in ("cudart", "pycuda")
    assert cuda.device_name == "a double of a Tegra X1"
    assert cuda.compute_capability == (5, 3)
    assert cuda.runtime_version == "10.2"
    assert cuda.integrated is True


def test_bytes_go_to_the_device_and_come_back(cuda):
    with cuda.activate():
        stream, address, buffer = cuda.create_stream(), cuda.malloc(300), cuda.host_alloc(100)
        buffer.array[:] = np.arange(100)
        cuda.memset_async(address, 7, 300, stream)
        cuda.copy_async(address + 150, buffer.array.ctypes.data + 20, 60, stream)
        cuda.copy_async(address, address + 160, 10, stream)
        data = download(cuda, address, 300, stream)
    expected = np.full(300, 7, dtype=np.uint8)
    expected[150:210] = np.arange(20, 80)
    expected[:10] = np.arange(30, 40)
    np.testing.assert_array_equal(data, expected)


def test_host_memory_is_one_memory_with_two_addresses(cuda, machine):
    with cuda.activate():
        buffer, stream = cuda.host_alloc(16), cuda.create_stream()
        buffer.array[:] = 9
        address = cuda.malloc(16)
        cuda.copy_async(address, buffer.device_address, 16, stream)
        assert (download(cuda, address, 16, stream) == 9).all()
    assert machine.bytes_left(buffer.device_address + 6) == 10
    assert machine.bytes_left(buffer.array.ctypes.data) == 0


def test_rows_are_appended_and_their_neighbours_stay(cuda):
    with cuda.activate():
        stream, arena, rows = cuda.create_stream(), cuda.malloc(4 * 64), cuda.malloc(4 * 8)
        cuda.memset_async(arena, 1, 4 * 64, stream)
        cuda.memset_async(rows, 5, 4 * 8, stream)
        cuda.copy_2d_async(arena + 16, 64, rows, 8, 8, 4, stream)
        data = download(cuda, arena, 4 * 64, stream).reshape(4, 64)
    assert (data[:, 16:24] == 5).all()
    assert (data[:, :16] == 1).all()
    assert (data[:, 24:] == 1).all()


def test_a_row_outside_of_the_arena_is_refused(cuda):
    with cuda.activate():
        stream, arena, rows = cuda.create_stream(), cuda.malloc(4 * 64), cuda.malloc(4 * 8)
        with pytest.raises(CudaError, match="invalid argument"):
            cuda.copy_2d_async(arena + 60, 64, rows, 8, 8, 4, stream)


@pytest.mark.parametrize("n_bytes", [0, -1])
def test_an_empty_allocation_is_refused(cuda, n_bytes):
    with cuda.activate():
        with pytest.raises(CudaError, match=f"{n_bytes} bytes"):
            cuda.malloc(n_bytes)
        with pytest.raises(CudaError, match=f"{n_bytes} bytes"):
            cuda.host_alloc(n_bytes)


@pytest.mark.parametrize("allocate", ["malloc", "host_alloc"])
def test_full_memory_says_what_was_needed_and_what_is_free(cuda, machine, allocate):
    machine.cap_memory(1 << 20)
    with cuda.activate():
        cuda.malloc(1 << 19)
        with pytest.raises(DeviceMemoryError) as caught:
            getattr(cuda, allocate)(1 << 20)
        assert cuda.memory() == (1 << 19, 1 << 20)
    assert (caught.value.needed_bytes, caught.value.free_bytes) == (1 << 20, 1 << 19)
    assert "--context" in caught.value.hint


def test_memory_is_given_back_once(cuda, machine):
    with cuda.activate():
        address, buffer = cuda.malloc(64), cuda.host_alloc(64)
        cuda.free(address)
        cuda.free_host(buffer)
        assert machine.counters()["bytes_alive"] == 0
        with pytest.raises(CudaError, match=f"no device memory {address:#x}"):
            cuda.free(address)
        with pytest.raises(CudaError, match="no host memory"):
            cuda.free_host(buffer)


def test_what_was_never_taken_cannot_be_given_back(cuda):
    with cuda.activate():
        address = cuda.malloc(64)
        with pytest.raises(CudaError):
            cuda.free(address + 1)
        with pytest.raises(CudaError):
            cuda.destroy_stream(address)
        with pytest.raises(CudaError):
            cuda.destroy_event(12345)


def test_close_gives_everything_back_and_closes_once(cuda, machine):
    with cuda.activate():
        cuda.malloc(1000)
        cuda.host_alloc(1000)
        stream, event = cuda.create_stream(), cuda.create_event()
        cuda.record(event, stream)
    cuda.close()
    cuda.close()
    alive = {name: n for name, n in machine.counters().items() if name.endswith("alive")}
    assert set(alive.values()) == {0}
    with pytest.raises(CudaError, match="closed"):
        cuda.activate().__enter__()


def test_one_failure_does_not_keep_the_rest_alive(cuda, machine, capfd):
    with cuda.activate():
        for _ in range(3):
            cuda.malloc(1000)
    machine.fail_next("cudaFree", 1)
    if cuda.name.startswith("cudart"):
        with pytest.raises(CudaError, match="cudaFree failed"):
            cuda.close()
    else:  # pycuda tells stderr, and nobody else
        cuda.close()
        assert "cuMemFree failed" in capfd.readouterr().err
    assert machine.counters()["device_alive"] == 1
    cuda.close()


def test_a_byte_written_behind_an_allocation_is_counted_when_it_is_freed(cuda, machine):
    with cuda.activate():
        stream, address = cuda.create_stream(), cuda.malloc(777)
        cuda.memset_async(address, 1, 777, stream)
        cuda.synchronize(stream)
        ctypes.memset(address + 777, 0, 1)  # as a kernel with a wrong length would
        cuda.free(address)
    assert machine.counters()["overruns"] == 1


def test_a_failed_call_is_named(cuda, machine):
    with cuda.activate():
        stream = cuda.create_stream()
        machine.fail_next("cudaStreamSynchronize", 719)
        with pytest.raises(
            CudaError, match=r"StreamSynchronize failed.*unspecified launch"
        ) as caught:
            cuda.synchronize(stream)
    assert caught.value.call in ("cudaStreamSynchronize", "cuStreamSynchronize")


def test_a_failed_call_leaves_no_error_behind_for_the_next_library(cuda, machine):
    with cuda.activate():
        stream = cuda.create_stream()
        with pytest.raises(CudaError):
            cuda.memset_async(12345, 0, 1, stream)
        assert machine.library.cudaGetLastError() == 0


def test_elapsed_time_is_that_of_the_work_between(cuda, machine):
    with cuda.activate():
        stream, start, end = cuda.create_stream(), cuda.create_event(), cuda.create_event()
        cuda.record(start, stream)
        assert machine.launch(stream, lambda: threading.Event().wait(0.02)) == 0
        cuda.record(end, stream)
        assert 15 < cuda.elapsed_ms(start, end) < 2000
        cuda.destroy_event(start)
        cuda.destroy_event(end)
    assert machine.counters()["events_alive"] == 0


def test_a_worker_thread_works_in_the_same_context(cuda):
    with cuda.activate():
        stream, address = cuda.create_stream(), cuda.malloc(64)

    def work():
        with cuda.activate():
            cuda.memset_async(address, 3, 64, stream)
            return download(cuda, address, 64, stream)

    assert (in_thread(work) == 3).all()


def test_the_application_gets_its_own_context_back(cuda, machine):
    own = machine.library.double_create_context()

    def application():
        make_current(machine, own)
        with cuda.activate():
            inside = current_context(machine)
            with cuda.activate():
                assert current_context(machine) == inside
            assert current_context(machine) == inside
            cuda.free(cuda.malloc(64))
        return inside, current_context(machine)

    inside, after = in_thread(application)
    assert inside != own
    assert after == own


def test_an_exception_in_the_block_restores_the_context_too(cuda, machine):
    own = machine.library.double_create_context()

    def application():
        make_current(machine, own)
        with pytest.raises(ValueError, match="of ours"), cuda.activate():
            raise ValueError("of ours")
        return current_context(machine)

    assert in_thread(application) == own


def test_a_thread_without_a_context_has_none_afterwards(cuda, machine):
    def work():
        with cuda.activate():
            pass
        return current_context(machine)

    assert in_thread(work) is None


def test_the_context_of_the_application_is_not_worked_in(cuda, machine):
    own = machine.library.double_create_context()
    with cuda.activate():
        stream = cuda.create_stream()

    def forgot_to_activate():
        make_current(machine, own)
        cuda.synchronize(stream)

    with pytest.raises(CudaError, match="invalid"):
        in_thread(forgot_to_activate)


def test_threads_do_not_disturb_each_other(cuda, machine):
    with cuda.activate():
        streams = [cuda.create_stream() for _ in range(4)]
    results = [None] * 4

    def work(index):
        with cuda.activate():
            address = cuda.malloc(4096)
            for value in range(25):
                cuda.memset_async(address, 10 * index + value % 10, 4096, streams[index])
            results[index] = set(download(cuda, address, 4096, streams[index]))
            cuda.free(address)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [{10 * index + 4} for index in range(4)]
    assert machine.counters()["device_alive"] == 0
