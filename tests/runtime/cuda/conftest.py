"""A machine with the double of libcudart, and an open door of each kind on it."""

import importlib
import os
import sys

import pytest

from merino_edge.runtime.cuda.open import open_cuda

PYCUDA_SITE = os.path.join(os.path.dirname(__file__), "..", "..", "cuda_double", "pycuda_site")


@pytest.fixture
def machine(cudart_double, monkeypatch):
    """The double as if new, and the only libcudart that is found."""
    cudart_double.reset()
    monkeypatch.setenv("MERINO_EDGE_CUDART", cudart_double.path)
    yield cudart_double
    cudart_double.reset()


@pytest.fixture
def pycuda_driver(machine, monkeypatch):
    """The double of pycuda can be imported; gives its module ``driver``."""
    monkeypatch.setenv("CUDART_DOUBLE", machine.path)
    monkeypatch.syspath_prepend(PYCUDA_SITE)
    for name in ("pycuda", "pycuda.driver"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("pycuda.driver")
    for name in ("pycuda", "pycuda.driver"):
        sys.modules.pop(name, None)


@pytest.fixture(params=["cudart", "pycuda"])
def cuda(request, machine):
    """Each door, open."""
    if request.param == "pycuda":
        request.getfixturevalue("pycuda_driver")
    opened = open_cuda(request.param)
    yield opened
    opened.close()


@pytest.fixture
def cudart(machine):
    """The door that has graphs, open."""
    opened = open_cuda("cudart")
    yield opened
    opened.close()
