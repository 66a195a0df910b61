"""Which door to CUDA: libcudart where it works, because it has graphs, else pycuda.

This module knows the order and what to say when neither works.
"""

from typing import Optional

from merino_edge.errors import CudaError, MerinoError, MissingDependencyError, UsageError
from merino_edge.runtime.cuda.api import Cuda
from merino_edge.runtime.cuda.cudart import open_cudart
from merino_edge.runtime.cuda.cudart_library import PATH_VARIABLE

DOORS = ("cudart", "pycuda")
_HOW_TO_GET_CUDART = (
    "on a Jetson it is in the JetPack package cuda-cudart; on a workstation "
    "'pip install nvidia-cuda-runtime-cu12'. {}=PATH says where it lies.".format(PATH_VARIABLE)
)


def open_cuda(prefer: Optional[str] = None) -> Cuda:
    """Opens the GPU.

    Args:
        prefer: "cudart" or "pycuda" to try no other; None for the first that works.

    Raises:
        UsageError: There is no such door.
        MissingDependencyError: Neither library is installed, or not the one that was named.
        CudaError: A library is there, but finds no device to work with: what the first one said.
    """
    if prefer is not None and prefer not in DOORS:
        raise UsageError(
            "there is no way to CUDA named {!r}; it is one of {}.".format(prefer, ", ".join(DOORS))
        )
    said: Optional[MerinoError] = None
    for name in [prefer] if prefer else DOORS:
        try:
            return _OPENERS[name]()
        except MissingDependencyError as missing:
            said = said or missing
        except CudaError as failure:  # it says more than that something is not installed
            said = failure if not isinstance(said, CudaError) else said
    assert said is not None
    raise said


def _open_cudart() -> Cuda:
    cuda = open_cudart()
    if cuda is None:
        raise MissingDependencyError("libcudart", "the GPU", _HOW_TO_GET_CUDART)
    return cuda


def _open_pycuda() -> Cuda:
    from merino_edge.runtime.cuda.pycuda_door import PyCuda

    return PyCuda()


_OPENERS = {"cudart": _open_cudart, "pycuda": _open_pycuda}
