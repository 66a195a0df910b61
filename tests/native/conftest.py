"""The core is compiled once for all of its tests."""

import pytest
from native_core import compile_c, load, sources


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("native") / "libmerino_edge.so"
    compile_c("-fPIC", "-shared", *sources(), "-o", path)
    return load(path)
