"""Which door is opened, and what is said when none can be."""

import sys

import pytest

from merino_edge.errors import CudaError, MissingDependencyError, UsageError
from merino_edge.runtime.cuda import cudart_library
from merino_edge.runtime.cuda.open import open_cuda


@pytest.fixture
def no_cudart(monkeypatch):
    monkeypatch.delenv("MERINO_EDGE_CUDART", raising=False)
    monkeypatch.setattr(cudart_library, "_LOADER_NAMES", ["libcudart.so.0"])
    monkeypatch.setattr(cudart_library, "pip_libraries", lambda: iter(()))


@pytest.fixture
def no_pycuda(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda", None)


def opened_name(prefer=None):
    cuda = open_cuda(prefer)
    cuda.close()
    return cuda.name


def test_libcudart_comes_first_because_it_has_graphs(machine, pycuda_driver):
    assert opened_name() == "cudart 10.2"


def test_pycuda_is_taken_where_libcudart_is_missing(machine, pycuda_driver, no_cudart):
    assert opened_name() == "pycuda 2020.1"


def test_a_named_door_is_the_only_one_tried(machine, pycuda_driver, no_cudart):
    assert opened_name("pycuda") == "pycuda 2020.1"
    with pytest.raises(MissingDependencyError, match="libcudart"):
        open_cuda("cudart")


def test_with_neither_the_first_door_is_named(no_cudart, no_pycuda):
    with pytest.raises(MissingDependencyError, match="libcudart") as caught:
        open_cuda()
    assert "pip install nvidia-cuda-runtime-cu12" in caught.value.hint


def test_a_missing_device_says_more_than_a_missing_package(machine, no_pycuda):
    machine.fail_next("cudaGetDeviceCount", 100)
    with pytest.raises(CudaError, match="no GPU can be used"):
        open_cuda()


def test_a_pycuda_without_a_device_says_more_than_a_missing_libcudart(
    machine, pycuda_driver, no_cudart
):
    machine.fail_next("cudaGetDeviceCount", 100)
    with pytest.raises(CudaError, match="cuInit failed"):
        open_cuda()


def test_an_unknown_door_is_a_wrong_question():
    with pytest.raises(UsageError, match="'opencl'; it is one of cudart, pycuda"):
        open_cuda("opencl")


def test_a_library_that_finds_no_device_does_not_hide_one_that_does(
    machine, monkeypatch, tmp_path, no_pycuda
):
    """Two toolkits on one machine, and the driver only serves the older."""
    import cuda_double

    newer = cuda_double.CudartDouble(cuda_double.build(tmp_path, version=13000))
    newer.fail_next("cudaGetDeviceCount", 35)
    monkeypatch.delenv("MERINO_EDGE_CUDART")
    monkeypatch.setattr(cudart_library, "_LOADER_NAMES", [newer.path, machine.path])
    assert opened_name() == "cudart 10.2"


def test_the_library_of_a_pip_package_is_found(machine, monkeypatch, tmp_path, no_pycuda):
    folder = tmp_path / "nvidia" / "cuda_runtime" / "lib"
    folder.mkdir(parents=True)
    (folder / "libcudart.so.12").symlink_to(machine.path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    monkeypatch.delenv("MERINO_EDGE_CUDART")
    monkeypatch.setattr(cudart_library, "_LOADER_NAMES", [])
    assert next(cudart_library.library_paths()) == str(folder / "libcudart.so.12")
    assert opened_name() == "cudart 10.2"


def test_the_variable_leaves_no_choice(monkeypatch, no_pycuda):
    monkeypatch.setenv("MERINO_EDGE_CUDART", "/nowhere/libcudart.so")
    with pytest.raises(CudaError, match=r"/nowhere/libcudart\.so cannot be loaded"):
        open_cuda()
