"""The door through pycuda: what is its own, beside what all doors promise."""

import gc
import threading

import pytest

from merino_edge.errors import CudaError, MissingDependencyError, UnsupportedError
from merino_edge.runtime.cuda.open import open_cuda


@pytest.fixture
def pycuda_door(pycuda_driver):
    opened = open_cuda("pycuda")
    yield opened
    opened.close()


def test_graphs_are_refused_in_words(pycuda_door):
    assert pycuda_door.can_capture is False
    with pycuda_door.activate():
        stream = pycuda_door.create_stream()
        for call in (
            lambda: pycuda_door.begin_capture(stream),
            lambda: pycuda_door.end_capture(stream),
            lambda: pycuda_door.launch(1, stream),
        ):
            with pytest.raises(UnsupportedError, match=r"pycuda 2020\.1 has no CUDA graphs"):
                call()


def test_no_context_stays_on_the_stack_of_a_thread(pycuda_door, pycuda_driver):
    """pycuda ends the process when a thread dies with one."""
    left = []

    def work():
        with pycuda_door.activate(), pycuda_door.activate():
            pass
        left.append(pycuda_driver.Context.get_current())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert left == [None]
    assert pycuda_driver.Context.get_current() is None


def test_an_application_with_its_own_context_is_not_disturbed(pycuda_door, pycuda_driver):
    own = pycuda_driver.Device(0).make_context()
    with pycuda_door.activate():
        assert pycuda_driver.Context.get_current() != own
    assert pycuda_driver.Context.get_current() == own
    own.pop()


def test_memory_lives_until_it_is_given_back(pycuda_door, machine):
    """pycuda frees what nobody holds; outside, nobody holds more than an integer."""
    with pycuda_door.activate():
        pycuda_door.malloc(64)
        pycuda_door.create_stream()
        pycuda_door.create_event()
        gc.collect()
        counters = machine.counters()
    assert (counters["device_alive"], counters["streams_alive"]) == (1, 1)
    assert counters["events_alive"] == 1


def test_the_primary_context_is_one_for_all_sessions(pycuda_door, pycuda_driver):
    second = open_cuda("pycuda")
    with pycuda_door.activate():
        first = pycuda_driver.Context.get_current()
    with second.activate():
        assert pycuda_driver.Context.get_current() == first
    second.close()


def test_host_to_host_is_no_work_for_the_device(pycuda_door):
    with pycuda_door.activate():
        buffer, stream = pycuda_door.host_alloc(64), pycuda_door.create_stream()
        address = buffer.array.ctypes.data
        with pytest.raises(CudaError, match="host memory to host memory"):
            pycuda_door.copy_async(address, address + 32, 32, stream)


def test_a_missing_pycuda_names_the_other_door(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycuda", None)
    with pytest.raises(MissingDependencyError, match="pycuda") as caught:
        open_cuda("pycuda")
    assert "cudart" in caught.value.hint


def test_a_pycuda_without_a_driver_library_is_told_apart(monkeypatch, tmp_path):
    package = tmp_path / "pycuda"
    package.mkdir()
    (package / "__init__.py").write_text("VERSION_TEXT = '2020.1'\n")
    (package / "driver.py").write_text("raise ImportError('libcuda.so.1: cannot open')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("pycuda", "pycuda.driver"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    try:
        with pytest.raises(CudaError, match=r"pycuda 2020\.1 cannot be used: libcuda\.so\.1"):
            open_cuda("pycuda")
    finally:
        __import__("sys").modules.pop("pycuda", None)


def test_no_device_is_told_in_pycudas_words(pycuda_driver, machine):
    machine.fail_next("cudaGetDeviceCount", 100)
    with pytest.raises(CudaError, match="cuInit failed: no device was found"):
        open_cuda("pycuda")
