"""What all tests share: tiers that skip with a reason, two threads, and the shared data.

A marker says what a test needs; where that is missing the test is skipped and says so. This file
is read by Python 3.6 as well, because tests/py36 lies below it.
"""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

# Read when numpy or torch load, which is later than this: two threads each, on any machine.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "2")

NEEDS = {
    "torch": ("torch",),
    "onnx": ("onnx", "onnxruntime"),
    "rtx": ("tensorrt_rtx_bindings",),
}
SHARED_DATA = os.path.join(os.path.dirname(__file__), "..", "..", "shared", "data")


def pytest_runtest_setup(item):
    """Skip what this machine cannot run, naming what is missing."""
    for marker, packages in NEEDS.items():
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if missing and item.get_closest_marker(marker):
            pytest.skip("not installed: {}".format(", ".join(missing)))
    if item.get_closest_marker("gpu") and not os.path.exists("/dev/nvidia0"):
        pytest.skip("no NVIDIA GPU here")
    if item.get_closest_marker("jetson") and not os.path.exists("/etc/nv_tegra_release"):
        pytest.skip("not a Jetson")


@pytest.fixture(scope="session")
def shared_data():
    """Path of the folder with real text and benchmarks, which never is part of the project."""
    path = os.path.realpath(SHARED_DATA)
    if not os.path.isdir(path):
        pytest.skip("there is no ../shared/data beside this checkout")
    return path


@pytest.fixture(scope="session")
def native_library(tmp_path_factory):
    """The native decoder, compiled from this checkout; found by its variable while tests run."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here (cc), so no native decoder")
    from merino_edge.runtime import native_library as door

    path = str(tmp_path_factory.mktemp("native_library") / door.LIBRARY)
    build = os.path.join(os.path.dirname(__file__), "..", "native_build.py")
    subprocess.check_call([sys.executable, build, "shared", path])
    before = os.environ.get(door.VARIABLE)
    os.environ[door.VARIABLE] = path
    yield door.NativeLibrary()
    os.environ.pop(door.VARIABLE)
    if before is not None:
        os.environ[door.VARIABLE] = before


@pytest.fixture(scope="session")
def cudart_double(tmp_path_factory):
    """The strict libcudart of tests/cuda_double; one state for all, so begin with its reset()."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here (cc), so no double of libcudart")
    import cuda_double

    return cuda_double.CudartDouble(cuda_double.build(tmp_path_factory.mktemp("cudart_double")))
