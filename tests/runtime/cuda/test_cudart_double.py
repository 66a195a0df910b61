"""The double of libcudart is as strict as it says: each misuse, called with bare ctypes."""

import ctypes
from ctypes import byref, c_size_t, c_void_p

import pytest


class Bare:
    """The library as a program would call it that knows its types; codes come back unchecked."""

    def __init__(self, machine):
        self.library = machine.library

    def new(self, name, *arguments):
        made = c_void_p()
        assert getattr(self.library, name)(byref(made), *arguments) == 0
        return made.value

    def malloc(self, n_bytes):
        return self.new("cudaMalloc", c_size_t(n_bytes))

    def stream(self):
        return self.new("cudaStreamCreateWithFlags", 1)

    def memset(self, address, n_bytes, stream, value=1):
        arguments = (c_void_p(address), value, c_size_t(n_bytes), c_void_p(stream))
        return self.library.cudaMemsetAsync(*arguments)

    def copy(self, dst, src, n_bytes, stream, kind=4):
        sides = (c_void_p(dst), c_void_p(src))
        return self.library.cudaMemcpyAsync(*sides, c_size_t(n_bytes), kind, c_void_p(stream))

    def synchronize(self, stream):
        return self.library.cudaStreamSynchronize(c_void_p(stream))


@pytest.fixture
def bare(machine):
    return Bare(machine)


def test_memory_that_nobody_wrote_is_nan(bare):
    address = bare.malloc(64)
    assert ctypes.string_at(address, 64) == b"\xff" * 64
    assert address % 512 == 0


def test_an_address_cut_to_32_bits_is_noticed(bare):
    address, stream = bare.malloc(64), bare.stream()
    assert bare.memset(address & 0xFFFFFFFF, 64, stream) == 1
    assert bare.memset(address, 64, stream & 0xFFFFFFFF) == 400
    assert bare.library.cudaFree(ctypes.c_int(address & 0x7FFFFFFF)) == 1


def test_a_size_that_does_not_fit_is_refused(bare):
    address, stream = bare.malloc(64), bare.stream()
    assert bare.memset(address + 1, 63, stream) == 0
    assert bare.memset(address + 1, 64, stream) == 1
    assert bare.copy(address, address + 60, 5, stream) == 1


def test_freed_memory_is_refused_and_its_address_never_comes_back(bare, machine):
    address, stream = bare.malloc(64), bare.stream()
    assert bare.library.cudaFree(c_void_p(address)) == 0
    assert bare.memset(address, 1, stream) == 1
    assert bare.library.cudaFree(c_void_p(address)) == 1
    assert address not in [bare.malloc(64) for _ in range(50)]
    assert machine.bytes_left(address) == 0


def test_work_is_late_so_that_a_forgotten_synchronisation_shows(bare):
    address, stream = bare.malloc(4), bare.stream()
    assert bare.memset(address, 4, stream) == 0
    assert ctypes.string_at(address, 4) == b"\xff" * 4
    assert bare.synchronize(stream) == 0
    assert ctypes.string_at(address, 4) == b"\x01" * 4


def test_a_launch_comes_after_what_was_given_before(bare, machine):
    address, stream, seen = bare.malloc(4), bare.stream(), []
    bare.memset(address, 4, stream)
    assert machine.launch(stream, lambda: seen.append(ctypes.string_at(address, 4))) == 0
    assert seen == [b"\x01" * 4]


def test_pageable_memory_and_wrong_kinds_are_refused(bare):
    address, stream = bare.malloc(8), bare.stream()
    pageable = ctypes.create_string_buffer(8)
    assert bare.copy(address, ctypes.addressof(pageable), 8, stream) == 1
    assert bare.copy(address, address, 8, stream, kind=1) == 21


def test_the_default_stream_is_refused(bare):
    assert bare.memset(bare.malloc(8), 8, 0) == 400


def test_an_error_of_a_kernel_is_raised_where_it_is_launched(bare, machine):
    with pytest.raises(ZeroDivisionError):
        machine.launch(bare.stream(), lambda: 1 // 0)


def test_an_error_of_a_replayed_kernel_shows_at_the_synchronisation(cudart, machine):
    with cudart.activate():
        stream = cudart.create_stream()
        cudart.begin_capture(stream)
        machine.launch(stream, lambda: 1 // 0)
        graph = cudart.end_capture(stream)
        cudart.launch(graph, stream)
        assert machine.library.cudaStreamSynchronize(c_void_p(stream)) == 719
    with pytest.raises(ZeroDivisionError):
        machine.raise_kernel_error()


def test_the_nth_call_fails_and_the_next_does_not(bare, machine):
    machine.fail_next("cudaMalloc", 2, nth=2)
    address = c_void_p()
    codes = [bare.library.cudaMalloc(byref(address), c_size_t(8)) for _ in range(3)]
    assert codes == [0, 2, 0]


def test_events_know_that_they_have_not_happened(bare):
    stream, events = bare.stream(), [bare.new("cudaEventCreate") for _ in range(2)]
    start, end = (c_void_p(event) for event in events)
    elapsed = ctypes.c_float()
    assert bare.library.cudaEventElapsedTime(byref(elapsed), start, end) == 400
    for event in (start, end):
        assert bare.library.cudaEventRecord(event, c_void_p(stream)) == 0
    assert bare.library.cudaEventElapsedTime(byref(elapsed), start, end) == 600
    assert bare.library.cudaEventSynchronize(end) == 0
    assert bare.library.cudaEventElapsedTime(byref(elapsed), start, end) == 0


def test_copies_are_counted_by_direction_and_size(cudart, machine):
    with cudart.activate():
        stream, device, host = cudart.create_stream(), cudart.malloc(64), cudart.host_alloc(64)
        machine.reset_counters()
        cudart.copy_async(device, host.array.ctypes.data, 48, stream)
        cudart.copy_async(host.array.ctypes.data, device, 16, stream)
        cudart.copy_2d_async(device, 8, device + 32, 8, 4, 3, stream)
        cudart.synchronize(stream)
    counters = machine.counters()
    assert (counters["copies"], counters["copied_bytes"], counters["largest_copy"]) == (2, 64, 48)
    assert (counters["copies_2d"], counters["copied_2d_bytes"]) == (1, 12)
    assert (counters["bytes_to_device"], counters["bytes_to_host"]) == (48, 16)
    assert (counters["allocations"], counters["synchronisations"]) == (0, 1)
