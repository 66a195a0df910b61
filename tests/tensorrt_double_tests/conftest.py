"""The doubles' own tests need onnx and onnxruntime; without them they are skipped with a reason."""

import shutil

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from cuda_double import CudartDouble, build
from tensorrt_double import VERSIONS, make


@pytest.fixture(params=VERSIONS)
def trt(request):
    """Every version, one after the other."""
    return make(request.param)


@pytest.fixture(scope="session")
def cudart_path(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler to build the CUDA double with")
    return build(tmp_path_factory.mktemp("cudart"))


@pytest.fixture
def cuda(cudart_path):
    double = CudartDouble(cudart_path)
    double.reset()
    yield double
    double.reset()
